import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  // Examples of the pages import the package by its name, and mean the sources.
  resolve: { alias: { switchyard: fileURLToPath(new URL('./src/index.ts', import.meta.url)) } },
  test: {
    include: ['test/**/*.test.ts'],
    // A process per file: a crash in native code then names its file instead of ending the run.
    pool: 'forks',
    // Tests run whole models on slow shared machines; a limit is only there to end a hang.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // .ci/run counts the tests from the report.
    reporters: process.env.CI ? ['default', ['json', { outputFile: 'build/ci/tests.json' }]] : ['default'],
  },
});
