/**
 * Everything the fixtures hold that is not built yet, and why. Whatever stands here must be refused by the library: an
 * entry that has become supported fails, so the list can only shrink.
 */
export const NOT_YET = {
  /** By model_type of config.json. */
  modelTypes: {},
  /** By general.architecture of a GGUF file. */
  architectures: {},
  /** Storage formats of blocks.json, in our spelling. */
  formats: {},
} as const satisfies Record<string, Readonly<Record<string, string>>>;

type List = keyof typeof NOT_YET;

/** Why `name` is not built, or undefined where it must work. */
export const reasonFor = (list: List, name: string): string | undefined =>
  (NOT_YET[list] as Readonly<Record<string, string>>)[name];
