import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The interpreter for tests that compare with Python libraries: SWITCHYARD_PYTHON, else python3. */
const interpreter = process.env.SWITCHYARD_PYTHON ?? 'python3';

/**
 * Whether Python has these packages. Says on stderr what is skipped where it has not; fails where SWITCHYARD_PYTHON
 * names an interpreter without them.
 */
export function pythonHas(packages: readonly string[], what: string): boolean {
  const { status } = spawnSync(interpreter, ['-c', `import ${packages.join(', ')}`], { stdio: 'ignore' });
  if (status === 0) return true;
  const message = `${interpreter} cannot import ${packages.join(', ')}`;
  if (process.env.SWITCHYARD_PYTHON !== undefined) throw new Error(message);
  console.warn(`${what}: skipped, ${message}; SWITCHYARD_PYTHON names another interpreter`);
  return false;
}

/** Runs a script of the project and returns what it prints. Throws with its stderr when it fails. */
export function runPython(script: string, args: readonly string[]): string {
  const path = fileURLToPath(new URL(`../../${script}`, import.meta.url));
  return execute([path, ...args]);
}

/** Runs Python source text and returns what it prints. */
export const runPythonText = (source: string, args: readonly string[] = []): string =>
  execute(['-c', source, ...args]);

function execute(args: readonly string[]): string {
  const env = { ...process.env, HF_HUB_OFFLINE: '1', TRANSFORMERS_VERBOSITY: 'error' };
  const { status, stdout, stderr, error } = spawnSync(interpreter, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${args[0].slice(0, 200)} ended with ${status}:\n${stderr}`);
  return stdout;
}
