// Collects a tier's functions; the last include of a tier file.
static MathTable make_table() {
  MathTable t{};
  const auto set = [&t](ElementOp op, void (*f)(void*, const void*, const void*, const void*, int64_t)) {
    t.op[static_cast<int>(op)] = f;
  };
#define SY_SET(Name, name) set(ElementOp::k##Name, tile_##name);
  SY_SET(Add, add)
  SY_SET(Sub, sub) SY_SET(Mul, mul) SY_SET(Div, div) SY_SET(Max, max) SY_SET(Min, min) SY_SET(Pow, pow)
      SY_SET(Neg, neg) SY_SET(Abs, abs) SY_SET(Sign, sign) SY_SET(Exp, exp) SY_SET(Log, log)
          SY_SET(Log1p, log1p) SY_SET(Sqrt, sqrt) SY_SET(Rsqrt, rsqrt) SY_SET(Reciprocal, reciprocal)
              SY_SET(Tanh, tanh) SY_SET(Erf, erf) SY_SET(Sigmoid, sigmoid) SY_SET(Sin, sin) SY_SET(Cos, cos)
                  SY_SET(Floor, floor) SY_SET(Lt, lt) SY_SET(Le, le) SY_SET(Eq, eq) SY_SET(Ne, ne)
                      SY_SET(AddI32, add_i32) SY_SET(SubI32, sub_i32) SY_SET(MulI32, mul_i32)
                          SY_SET(DivI32, div_i32) SY_SET(ModI32, mod_i32) SY_SET(MaxI32, max_i32)
                              SY_SET(MinI32, min_i32) SY_SET(LtI32, lt_i32) SY_SET(LeI32, le_i32)
                                  SY_SET(EqI32, eq_i32) SY_SET(NeI32, ne_i32) SY_SET(And, and_i32)
                                      SY_SET(Or, or_i32) SY_SET(Xor, xor_i32) SY_SET(Not, not_i32)
                                          SY_SET(Select, select) SY_SET(SelectI32, select)
                                              SY_SET(ToI32, to_i32) SY_SET(ToF32, to_f32)
#undef SY_SET
                                                  t.fill = fill_lanes;
  const auto convert = [&t](DType d, void (*in)(void*, const void*, int64_t),
                            void (*out)(void*, const void*, int64_t)) {
    t.load[static_cast<int>(d)] = in;
    t.store[static_cast<int>(d)] = out;
  };
  convert(DType::kF32, copy_lanes, copy_lanes);
  convert(DType::kI32, copy_lanes, copy_lanes);
  convert(DType::kU32, copy_lanes, copy_lanes);
  convert(DType::kF16, load_half_lanes, store_half_lanes);
  convert(DType::kBF16, load_bf16_lanes, store_bf16_lanes);
  convert(DType::kU8, load_u8_lanes, store_u8_lanes);
  convert(DType::kBool, load_bool_lanes, store_bool_lanes);
  t.row_max = row_max;
  t.row_min = row_min;
  t.row_sum = row_sum;
  t.row_sum_squares = row_sum_squares;
  t.exp_sum = exp_sum;
  t.row_scale = row_scale;
  t.row_add = row_add;
  t.row_accumulate = row_accumulate;
  t.row_norm = row_norm;
  t.next_above = next_above;
  t.block_maxima = block_maxima;
  t.weigh = weigh;
  t.moment = moment;
  t.drops = drops;
  t.bend_sum = bend_sum;
  t.thin = thin;
  t.survey = survey;
  t.count_above = count_above;
  t.keep_above = keep_above;
  t.keep_present = keep_present;
  t.column_sum = column_sum;
  t.column_max = column_max;
  t.column_min = column_min;
  t.rotate = rotate;
  t.normal = normal;
  t.gemm_rows = kRows;
  t.gemm_vectors = kVectors;
  fill_gemm<kRows>(t);
  return t;
}
