// Elementary functions over 16 lanes, included after vec.inl. Polynomials are our own weighted minimax fits.
// The errors given are the largest distances from the long double result that native/test/ops_test.cc meets
// on any tier.

template <int N>
SY_INLINE F polynomial(F x, const float (&c)[N]) {  // c[0] + c[1] x + …
  F r = set1(c[N - 1]);
  for (int i = N - 2; i >= 0; i--) r = fma(r, x, set1(c[i]));
  return r;
}

// e^x = 2^n e^r, |r| <= ln 2 / 2. 1.0 ulp.
SY_INLINE F exp(F x) {
  static constexpr float kC[] = {4.999999404e-01f, 1.666651666e-01f, 4.166828468e-02f, 8.369250223e-03f,
                                 1.382046845e-03f};
  const F clamped = min2(max2(x, set1(-104.0f)), set1(89.0f));
  const F n = round_even(clamped * set1(1.442695041f));
  F r = fnma(n, set1(0.693359375f), clamped);  // exact: ln 2 in 10 bits times n in 8
  r = fnma(n, set1(-2.12194440e-4f), r);
  const F p = fma(polynomial(r, kC), r * r, r) + set1(1.0f);
  return select(unordered(x, x), x, scale2(p, to_int(n)));
}

struct LogParts { F e, f; };
// x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), for normal positive x.
SY_INLINE LogParts log_split(F x) {
  const I offset = bits(x) - iset1(0x3f3504f3);
  const I e = sar<23>(offset);
  return {to_float(e), floats(bits(x) - shl<23>(e)) - set1(1.0f)};
}
// log(1 + f) + e ln 2 + low
SY_INLINE F log_join(F e, F f, F low) {
  static constexpr float kC[] = {3.333331347e-01f,  -2.500000894e-01f, 2.000207305e-01f,
                                 -1.666799635e-01f, 1.422032714e-01f,  -1.240603179e-01f,
                                 1.188356802e-01f,  -1.167144924e-01f, 6.750956178e-02f};
  const F f2 = f * f;
  F r = polynomial(f, kC) * f * f2;
  r = fma(e, set1(-2.12194440e-4f), r + low);
  r = fnma(set1(0.5f), f2, r);
  return fma(e, set1(0.693359375f), f + r);
}
SY_INLINE F log_specials(F x, F r) {  // x < 0 or NaN: NaN; 0: -inf; inf: inf
  r = select(lt(x, zero()), set1(NAN), r);
  r = select(eq(x, zero()), set1(-INFINITY), r);
  r = select(eq(x, set1(INFINITY)), x, r);
  return select(unordered(x, x), x, r);
}
// 0.8 ulp, subnormals too.
SY_INLINE F log(F x) {
  const M tiny = lt(x, set1(1.17549435e-38f));
  const F scaled = select(tiny, x * set1(8388608.0f), x);
  LogParts s = log_split(scaled);
  s.e = s.e - select(tiny, set1(23.0f), zero());
  return log_specials(x, log_join(s.e, s.f, zero()));
}
// log(1 + x): what rounding 1 + x loses comes back through `low`. 0.8 ulp.
SY_INLINE F log1p(F x) {
  const F one = set1(1.0f);
  const F u = one + x;
  const F lost = select(lt(x, one), x - (u - one), one - (u - x));
  const LogParts s = log_split(u);
  const F r = log_join(s.e, s.f, lost / u);
  const F small = select(lt(abs(x), set1(1e-4f)), fnma(x * set1(0.5f), x, x), r);  // keeps -0 and tiny values
  return log_specials(u, small);
}

// tanh: odd polynomial to 0.625, then 1 - 2 / (e^2x + 1). 1.3 ulp.
SY_INLINE F tanh(F x) {
  static constexpr float kC[] = {-3.333333135e-01f, 1.333321780e-01f, -5.394755304e-02f,
                                 2.170245349e-02f,  -8.177058771e-03f, 2.139342250e-03f};
  const F a = abs(x), one = set1(1.0f), x2 = x * x;
  const F small = fma(polynomial(x2, kC) * x2, x, x);
  const F large = one - set1(2.0f) / (exp(a + a) + one);
  return copy_sign(select(lt(a, set1(0.625f)), small, large), x);
}

// erf: odd polynomial to 0.9375, then 1 - e^(-x Q(x)). 1.1 ulp.
SY_INLINE F erf(F x) {
  static constexpr float kSmall[] = {1.283791661e-01f, -3.761262894e-01f, 1.128362492e-01f, -2.685566247e-02f,
                                     5.192201585e-03f, -8.047402371e-04f, 7.987311255e-05f};
  static constexpr float kLarge[] = {1.128648520e+00f, 6.351512074e-01f, 1.062370390e-01f, -2.376218326e-02f,
                                     3.642505966e-03f, -3.228126734e-04f, 1.123189213e-05f};
  const F a = abs(x), one = set1(1.0f);
  const F small = fma(polynomial(x * x, kSmall), x, x);
  const F t = min2(set1(3.95f), a);  // erf is 1 in f32 from 3.92; NaN stays
  const F large = one - exp(neg(t * polynomial(t, kLarge)));
  return select(lt(a, set1(0.9375f)), small, copy_sign(large, x));
}

// e^-|x| never overflows. 2.2 ulp.
SY_INLINE F sigmoid(F x) {
  const F z = exp(neg(abs(x))), one = set1(1.0f);
  return select(lt(x, zero()), z, one) / (one + z);
}

struct SinCos { F sin, cos; };
// sin and cos of 2 pi u, 0 <= u < 1; 2 ulp of 1.
SY_INLINE SinCos sin_cos_turns(F u) {
  static constexpr float kS[] = {6.283185482e+00f, -4.134186172e+01f, 8.162486267e+01f, -7.674058533e+01f};
  static constexpr float kC[] = {-1.973920822e+01f, 6.493914032e+01f, -8.542306519e+01f, 5.855688477e+01f};
  const F q = round_even(u * set1(4.0f));
  const F r = fnma(q, set1(0.25f), u);
  const F r2 = r * r;
  const F s = polynomial(r2, kS) * r, c = fma(polynomial(r2, kC), r2, set1(1.0f));
  const I n = to_int(q);
  const M swap = ieq(n & iset1(1), iset1(1));
  const I sin_sign = shl<30>(n & iset1(2)), cos_sign = shl<30>((n + iset1(1)) & iset1(2));
  return {floats(bits(select(swap, c, s)) ^ sin_sign), floats(bits(select(swap, s, c)) ^ cos_sign)};
}
