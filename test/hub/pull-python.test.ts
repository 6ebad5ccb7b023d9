import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pull } from '../../src/hub/pull.js';
import { FakeHub } from '../helpers/fake-hub.js';
import { pythonHas, runPythonText } from '../helpers/python.js';

describe.skipIf(!pythonHas(['huggingface_hub'], 'the cache of huggingface_hub'))('huggingface_hub', () => {
  it('finds what we downloaded', { timeout: 60_000 }, async () => {
    const cacheFolder = mkdtempSync(join(tmpdir(), 'switchyard-hub-'));
    await using hub = await FakeHub.start();
    hub.add('config.json', '{}');
    hub.add('model.safetensors', 'weights', { large: true });
    const { folder } = await pull('org/tiny', { endpoint: hub.endpoint, cacheFolder });
    const source = [
      'import sys, huggingface_hub as h',
      "print(h.try_to_load_from_cache('org/tiny', 'config.json', cache_dir=sys.argv[1]))",
      "print(h.snapshot_download('org/tiny', cache_dir=sys.argv[1], local_files_only=True))",
      'info = h.scan_cache_dir(sys.argv[1])',
      'print(len(info.warnings), [r.repo_id for r in info.repos], [sorted(v.refs) for r in info.repos for v in r.revisions])',
    ].join('\n');
    expect(runPythonText(source, [cacheFolder]).trim().split('\n')).toEqual([
      join(folder, 'config.json'),
      folder,
      "0 ['org/tiny'] [['main']]",
    ]);
    rmSync(cacheFolder, { recursive: true });
  });
});
