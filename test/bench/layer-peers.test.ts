import { expect, it } from 'vitest';
import { LayerPeer } from '../../bench/harness/layer-peers.js';
import type { PeerProcess } from '../../bench/harness/peer-process.js';

const block = { dModel: 4, dFf: 4, nExperts: 2, topK: 1 };

function peerOf(replies: unknown[]): { peer: LayerPeer; asked: unknown[]; notes: string[] } {
  const asked: unknown[] = [];
  const notes: string[] = [];
  const child = {
    name: 'p',
    ask: async (request: unknown) => {
      asked.push(request);
      return replies.shift() ?? null;
    },
  } as unknown as PeerProcess;
  const peer = new LayerPeer(child, { ready: true, formats: ['f32', 'q8_0'] }, (text) => notes.push(text));
  return { peer, asked, notes };
}

it('builds what it can, and drops its layer for what it cannot', async () => {
  const { peer, asked, notes } = peerOf([{ ready: true }, { ready: true }, { ms: 3 }]);
  expect(await peer.build({ ...block, format: 'bf16' })).toBe(false);
  expect(await peer.build({ ...block, format: 'q8_0' })).toBe(true);
  expect(await peer.forward(8)).toBe(3);
  expect(asked).toEqual([{ build: null }, { build: { ...block, format: 'q8_0' } }, { forward: 8 }]);
  expect(notes).toEqual([]);
});

it('says why it refuses a layer', async () => {
  const { peer, notes } = peerOf([{ refused: 'too large' }]);
  expect(await peer.build({ ...block, format: 'f32' })).toBe(false);
  expect(notes).toEqual(['p has no such layer (f32): too large']);
});

it('is left out from its end on', async () => {
  const { peer, asked, notes } = peerOf([{ ready: true }]);
  await peer.build({ ...block, format: 'f32' });
  await expect(peer.forward(1)).rejects.toThrow('it has ended');
  expect(await peer.build({ ...block, format: 'f32' })).toBe(false);
  expect(asked).toHaveLength(2);
  expect(notes).toEqual(['p has ended by itself; it is left out from here on']);
});
