import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { jsonOf, runCli } from '../helpers/cli.js';
import { FakeHub } from '../helpers/fake-hub.js';

describe('switchyard pull', () => {
  const home = mkdtempSync(join(tmpdir(), 'switchyard-home-'));
  afterAll(() => rmSync(home, { recursive: true }));

  it('downloads to HF_HOME from HF_ENDPOINT with HF_TOKEN, and inspect finds it by its name', async () => {
    await using hub = await FakeHub.start();
    hub.add('config.json', '{"model_type":"nobody"}');
    hub.add('model.safetensors', 'x', { large: true });
    const env = {
      HF_HOME: home,
      HF_ENDPOINT: hub.endpoint,
      HF_TOKEN: 'hf_one',
      OTHER: 'hf_two',
      HF_HUB_CACHE: '',
    };
    const first = await runCli(['pull', 'org/tiny', '--include', 'config.json', '--json'], { env });
    expect(jsonOf(first)).toEqual({
      repository: 'org/tiny',
      folder: join(home, 'hub/models--org--tiny/snapshots', hub.commit),
      commit: hub.commit,
      files: [{ name: 'config.json', bytes: 23 }],
    });
    expect(hub.requests[0].authorization).toBe('Bearer hf_one');
    const second = await runCli(['pull', 'org/tiny', '--token', 'OTHER'], { env });
    expect(second).toMatchObject({ code: 0, stderr: '' });
    expect(second.stdout).toMatch(/model\.safetensors .*1 B[\s\S]*snapshots/);
    expect(hub.requests.at(-1)?.authorization).toBe('Bearer hf_two');
    const shown = await runCli(['doctor', '--json'], { env });
    expect(shown.stdout).not.toContain('hf_one');
  });

  it('says what is wrong', async () => {
    const missing = await runCli(['inspect', 'org/none'], { env: { HF_HUB_CACHE: home } });
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining("'switchyard pull org/none'") });
    const token = await runCli(['pull', 'org/none', '--token', 'NOT_SET_ANYWHERE']);
    expect(token).toMatchObject({ code: 1, stderr: expect.stringContaining('NOT_SET_ANYWHERE') });
    const name = await runCli(['pull', '../x', '--json']);
    expect(jsonOf(name).error).toMatchObject({ code: 'ERR_OPTION' });
  });
});
