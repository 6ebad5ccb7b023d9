/** Names of repositories on a hub, and of the files in them: both may come from outside and become paths. */
import { mismatch } from '../core/errors.js';

export interface Repository {
  /** 'org/name', or 'name' for the few old ones without an organisation. */
  readonly id: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

export const DEFAULT_REVISION = 'main';

const SEGMENT = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$/;
const LONGEST_ID = 96;

/** The repository that a text names, `org/name` or `org/name@revision`; undefined where it can be none. */
export function parseRepository(text: string): Repository | undefined {
  const [id = '', revision = DEFAULT_REVISION, ...more] = text.split('@');
  const segments = id.split('/');
  if (more.length > 0 || segments.length > 2 || id.length > LONGEST_ID) return undefined;
  if (!segments.every((segment) => SEGMENT.test(segment) && !/\.\.|--|\.git$/.test(segment)))
    return undefined;
  return isRevision(revision) ? { id, revision } : undefined;
}

/** A revision that is safe as a path and in a URL: git allows more than this. */
export const isRevision = (text: string): boolean =>
  text.length <= 250 &&
  text.split('/').every((part) => /^[A-Za-z0-9_][A-Za-z0-9._+-]*$/.test(part) && !part.includes('..'));

export const isCommit = (text: string): boolean => /^[0-9a-f]{40}$/.test(text);

/**
 * Refuses names of files that could leave the folder they are meant for, on any system.
 * @throws SwitchyardError ERR_FORMAT
 */
export function checkFileName(where: string, name: unknown): string {
  const safe =
    typeof name === 'string' &&
    name.length <= 1024 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused.
    !/[\\:*?"<>|\x00-\x1f\x7f]/.test(name) &&
    name
      .split('/')
      .every(
        (part) => part !== '' && part !== '.' && part !== '..' && part.length <= 255 && !/[. ]$/.test(part),
      );
  if (safe) return name;
  throw mismatch(
    'ERR_FORMAT',
    where,
    `a file named ${JSON.stringify(name)?.slice(0, 200)}`,
    'a path inside the repository',
  );
}
