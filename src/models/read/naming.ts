import { SwitchyardError } from '../../core/errors.js';

/** The error with the file in its message: layers that refuse their options do not know that a file gave them. */
export function naming(source: string, error: unknown): unknown {
  if (!(error instanceof SwitchyardError) || error.message.includes(source)) return error;
  const { message, hint, cause } = error;
  const code = error.code === 'ERR_OPTION' || error.code === 'ERR_SHAPE' ? 'ERR_FORMAT' : error.code;
  return new SwitchyardError(code, message.replace(/^\[/, `[${source}: `), {
    cause,
    ...(hint === undefined ? {} : { hint }),
  });
}
