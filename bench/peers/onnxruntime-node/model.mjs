// An ONNX model of one sparse layer, written by hand: the few messages of the protobuf format (onnx.proto3) that it needs.

const FLOAT = 1;
const UINT8 = 2;
const BLOCK = 32;

const varint = (value) => {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.from([...bytes, Number(rest)]);
};
const text = (s) => new TextEncoder().encode(s);
const int = (field, value) => [varint(field << 3), varint(value)];
const float = (field, value) => [varint((field << 3) | 5), new Uint8Array(Float32Array.of(value).buffer)];
/** Parts of a message are lists of byte arrays, so that weights are copied only once, at the end. */
const message = (field, ...parts) => {
  const chunks = parts.flat(Infinity);
  const size = chunks.reduce((sum, c) => sum + c.length, 0);
  return [varint((field << 3) | 2), varint(size), chunks];
};
const string = (field, s) => message(field, text(s));

const tensor = (name, type, dims, data) =>
  message(
    5,
    dims.map((d) => int(1, d)),
    int(2, type),
    string(8, name),
    message(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  );
const valueInfo = (field, name, dims) => {
  const dim = (d) => message(1, typeof d === 'string' ? string(2, d) : int(1, d));
  return message(field, string(1, name), message(2, message(1, int(1, FLOAT), message(2, dims.map(dim)))));
};
const attribute = (name, value) =>
  message(
    5,
    string(1, name),
    typeof value === 'string'
      ? [string(4, value), int(20, 3)]
      : typeof value === 'bigint'
        ? [int(3, value), int(20, 2)]
        : [float(2, value), int(20, 1)],
  );
const node = (domain, type, inputs, output, attributes) =>
  message(
    1,
    inputs.map((name) => string(1, name)),
    string(2, output),
    string(4, type),
    Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    string(7, domain),
  );

/** SwiGLU of interleaved gate and up rows, as `x · sigmoid(x) · y`: the operators' own has other constants. */
const attributesOf = (topK) => ({
  k: BigInt(topK),
  activation_type: 'swiglu',
  swiglu_fusion: 1n,
  activation_alpha: 1,
  activation_beta: 0,
  swiglu_limit: 1e9,
  normalize_routing_weights: 1n,
});

/** Random bytes; `crypto` would take seconds for a whole layer, so a stretch of them is repeated. */
function randomBytes(size) {
  const out = new Uint8Array(size);
  const some = new Uint32Array(1 << 16);
  let x = 2463534242;
  for (let i = 0; i < some.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    some[i] = x;
  }
  const bytes = new Uint8Array(some.buffer);
  // An odd length of the stretch: no two experts hold the same values at the same place.
  for (let at = 0; at < size; at += bytes.length - 1)
    out.set(bytes.subarray(0, Math.min(bytes.length - 1, size - at)), at);
  return out;
}

export function randomFloats(size, scale) {
  const out = new Float32Array(size);
  const some = new Uint32Array(randomBytes(1 << 18).buffer);
  for (let i = 0; i < size; i++) out[i] = (some[i % (some.length - 1)] / 2 ** 31 - 1) * scale;
  return out;
}

/**
 * Router and experts with `bits` of 8 or 4 in blocks of 32 (com.microsoft.QMoE), or of 32 (com.microsoft.MoE, whose weights
 * are inputs then: a model of more than 2 GiB cannot be).
 * @returns the model's bytes, and inputs besides x
 */
export function layerModel({ dModel, dFf, nExperts, topK }, bits) {
  const fc1 = [nExperts, 2 * dFf, dModel];
  const fc2 = [nExperts, dModel, dFf];
  const sizeOf = (dims) => dims.reduce((a, b) => a * b, 1);
  const x = valueInfo(11, 'x', ['tokens', dModel]);
  const y = valueInfo(12, 'y', ['tokens', dModel]);
  const router = tensor('router', FLOAT, [dModel, nExperts], randomFloats(dModel * nExperts, 0.02));
  const route = node('', 'MatMul', ['x', 'router'], 'logits', {});
  const graph = [string(2, 'layer'), route, router, x, y];
  const inputs = {};
  if (bits === 32) {
    const names = ['x', 'logits', 'fc1', '', 'fc2', ''];
    graph.push(node('com.microsoft', 'MoE', names, 'y', attributesOf(topK)));
    for (const [name, dims] of Object.entries({ fc1, fc2 })) {
      graph.push(valueInfo(11, name, dims));
      inputs[name] = { dims, data: randomFloats(sizeOf(dims), 0.03) };
    }
  } else {
    const names = ['x', 'logits', 'fc1', 'fc1_scales', '', 'fc2', 'fc2_scales', ''];
    const attributes = {
      ...attributesOf(topK),
      expert_weight_bits: BigInt(bits),
      block_size: BigInt(BLOCK),
    };
    graph.push(node('com.microsoft', 'QMoE', names, 'y', attributes));
    for (const [name, [e, rows, columns]] of Object.entries({ fc1, fc2 })) {
      const packed = (columns * bits) / 8;
      graph.push(tensor(name, UINT8, [e, rows, packed], randomBytes(e * rows * packed)));
      const scales = new Float32Array((e * rows * columns) / BLOCK).fill(0.03 / 2 ** (bits - 1));
      graph.push(tensor(`${name}_scales`, FLOAT, [e, rows, columns / BLOCK], scales));
    }
  }
  const opset = (domain, version) => message(8, string(1, domain), int(2, version));
  const parts = [int(1, 8), message(7, ...graph), opset('', 17), opset('com.microsoft', 1)].flat(Infinity);
  return { bytes: Buffer.concat(parts), inputs };
}
