// Writes programs by hand (docs/program-format.md), without any check, so that tests can make wrong ones too.

export const bufferKinds = { input: 0, constant: 1, arena: 2, output: 3, weight: 4 } as const;
export const dtypes = { f32: 0, f16: 1, bf16: 2, i32: 3, u32: 4, u8: 5, bool: 6 } as const;
export const absent = 0xffffffff;

export interface BufferRow {
  kind: keyof typeof bufferKinds;
  dims: number[];
  dtype?: keyof typeof dtypes;
  /** Within the kind; default 0. */
  index?: number;
  /** In the arena; default 0. */
  offset?: number;
}

/** An attribute by its type in the format. */
export type AttributeValue = { int: number } | { float: number } | { ints: number[] } | { slot: number };

export interface InstructionRow {
  kernel: string;
  inputs: number[];
  outputs: number[];
  attributes?: AttributeValue[];
}

export interface ProgramText {
  magic?: number;
  version?: number;
  inputs?: number;
  constants?: number;
  weights?: number;
  outputs?: number;
  ints?: number;
  arenaBytes?: number;
  buffers: BufferRow[];
  instructions: InstructionRow[];
}

export function encodeProgram(program: ProgramText): Uint8Array {
  const bytes: number[] = [];
  const u32 = (value: number) => {
    for (let shift = 0; shift < 32; shift += 8) bytes.push((value >>> shift) & 0xff);
  };
  const word = (write: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(8));
    write(view);
    for (let i = 0; i < 8; i++) bytes.push(view.getUint8(i));
  };
  const i64 = (value: number) => word((view) => view.setBigInt64(0, BigInt(value), true));
  const pad = (to: number) => {
    while (bytes.length % to !== 0) bytes.push(0);
  };

  const names = [...new Set(program.instructions.map((row) => row.kernel))];
  u32(program.magic ?? 0x31505953);
  u32(program.version ?? 1);
  for (const list of [names, program.buffers, program.instructions]) u32(list.length);
  for (const count of ['inputs', 'constants', 'weights', 'outputs', 'ints'] as const)
    u32(program[count] ?? 0);
  i64(program.arenaBytes ?? 0);
  for (const name of names) {
    const text = new TextEncoder().encode(name);
    u32(text.length);
    bytes.push(...text);
    pad(4);
  }
  pad(8);
  for (const row of program.buffers) {
    u32(bufferKinds[row.kind]);
    u32(dtypes[row.dtype ?? 'f32']);
    u32(row.dims.length);
    u32(row.index ?? 0);
    i64(row.offset ?? 0);
    for (const dim of row.dims) i64(dim);
  }
  for (const row of program.instructions) {
    const attributes = row.attributes ?? [];
    u32(names.indexOf(row.kernel));
    for (const list of [row.inputs, row.outputs, attributes]) u32(list.length);
    for (const operand of [...row.inputs, ...row.outputs]) u32(operand);
    pad(8);
    for (const attribute of attributes) {
      if ('ints' in attribute) {
        u32(2);
        u32(attribute.ints.length);
        for (const value of attribute.ints) i64(value);
      } else {
        u32('int' in attribute ? 0 : 'float' in attribute ? 1 : 3);
        u32(1);
        if ('float' in attribute) word((view) => view.setFloat64(0, attribute.float, true));
        else i64('int' in attribute ? attribute.int : attribute.slot);
      }
    }
  }
  return Uint8Array.from(bytes);
}
