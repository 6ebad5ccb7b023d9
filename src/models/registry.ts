/** The families by model_type and by GGUF architecture. */
import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/folder.js';
import { SwitchyardError } from '../core/errors.js';
import { ConfigReader, checkConfig } from './config.js';
import { llama } from './families/llama.js';
import { mixtral } from './families/mixtral.js';
import { olmoe } from './families/olmoe.js';
import { qwen3 } from './families/qwen3.js';
import { qwen3Moe } from './families/qwen3_moe.js';
import type { Family, ModelFiles } from './family.js';
import { ggufConfig, ggufNames } from './gguf.js';
import { ourNames } from './parts.js';
import { readPlainConfig } from './plain-config.js';

const FAMILIES: readonly Family[] = [llama, mixtral, olmoe, qwen3, qwen3Moe];
export const modelTypes: readonly string[] = FAMILIES.map((f) => f.modelType);

/** Config and tensor names of a checkpoint. Throws ERR_UNSUPPORTED_ARCH for a family that is not built. */
export function describeModel(checkpoint: Checkpoint): ModelFiles {
  const has = (name: string): boolean => checkpoint.tensors.has(name);
  if (checkpoint.kind === 'switchyard') {
    const config = readPlainConfig(checkpoint.config, checkpoint.path);
    return { checkpoint, config, names: ourNames(config) };
  }
  if (checkpoint.kind === 'gguf') {
    const arch = checkpoint.metadata.getString('general.architecture');
    const candidates = FAMILIES.filter((f) => f.ggufArchitecture === arch);
    const family =
      candidates.find((f) => f.ownsGguf?.(checkpoint.metadata)) ?? candidates.find((f) => !f.ownsGguf);
    if (!family)
      throw unsupported(checkpoint.path, arch, [
        ...new Set(FAMILIES.flatMap((f) => f.ggufArchitecture ?? [])),
      ]);
    const config = checkConfig(ggufConfig(checkpoint, family), checkpoint.path);
    return { checkpoint, config, names: ggufNames(config, has) };
  }
  const type = String(checkpoint.config.model_type);
  const family = FAMILIES.find((f) => f.modelType === type);
  if (!family) throw unsupported(checkpoint.folder, type, modelTypes);
  const file = join(checkpoint.folder, 'config.json');
  const reader = new ConfigReader(checkpoint.config, file);
  const config = checkConfig(family.fromHuggingFace(reader), file);
  reader.finish();
  return { checkpoint, config, names: family.huggingFaceNames(config, has) };
}

function unsupported(path: string, got: string, known: readonly string[]): SwitchyardError {
  return new SwitchyardError(
    'ERR_UNSUPPORTED_ARCH',
    `[${path}] got model type '${got}', expected ${known.join(' or ')}`,
  );
}
