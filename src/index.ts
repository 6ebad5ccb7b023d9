export { DisposedError, type ErrorCode, SwitchyardError } from './core/errors.js';
