import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  checkOptions,
  DisposedError,
  mismatch,
  SwitchyardError,
  unknownOption,
} from '../../src/core/errors.js';

describe('SwitchyardError', () => {
  it('carries code, hint and cause, and prints them', () => {
    const cause = new Error('deep');
    const error = new SwitchyardError('ERR_IO', '[load] got nothing, expected a file', {
      hint: 'pass a path',
      cause,
    });
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'SwitchyardError', code: 'ERR_IO', hint: 'pass a path', cause });
    expect(inspect(error)).toMatch(/ERR_IO[\s\S]*pass a path/);
  });

  it('has no hint and no cause of its own when none is given', () => {
    const error = mismatch('ERR_SHAPE', 'matmul', '[2, 3]', '[3, 4]');
    expect(error.message).toBe('[matmul] got [2, 3], expected [3, 4]');
    expect('hint' in error).toBe(false);
    expect('cause' in error).toBe(false);
  });

  it('has a subclass for use after dispose', () => {
    const error = new DisposedError('model');
    expect(error).toBeInstanceOf(SwitchyardError);
    expect(error).toMatchObject({ name: 'DisposedError', code: 'ERR_DISPOSED' });
    expect(error.message).toContain('[model]');
  });
});

describe('unknownOption', () => {
  const allowed = ['topK', 'topP', 'temperature', 'maxTokens', 'seed'];
  it.each([
    ['top_k', 'topK'],
    ['top-p', 'topP'],
    ['TEMPERATURE', 'temperature'],
    ['temprature', 'temperature'],
    ['maxTokesn', 'maxTokens'],
    ['sede', 'seed'],
  ])('%s suggests %s', (got, expected) => {
    const error = unknownOption('generate', got, allowed);
    expect(error.code).toBe('ERR_OPTION');
    expect(error.message).toBe(`[generate] got '${got}', expected one of ${allowed.join(', ')}`);
    expect(error.hint).toBe(`did you mean '${expected}'?`);
  });

  it.each(['banana', 'x', ''])('suggests nothing for %j', (got) => {
    expect(unknownOption('generate', got, allowed).hint).toBeUndefined();
  });
});

describe('checkOptions', () => {
  it.each([undefined, {}, { seed: 1 }, { seed: undefined }])('accepts %j', (options) => {
    expect(() => checkOptions('f', options, ['seed'])).not.toThrow();
  });

  it.each([
    [{ seeds: 1 }, "got 'seeds', expected one of seed"],
    [null, 'got null, expected an object of options'],
    [[1], 'got an array'],
    [3, 'got a number'],
  ])('refuses %j', (options, message) => {
    expect(() => checkOptions('f', options, ['seed'])).toThrow(message);
  });
});
