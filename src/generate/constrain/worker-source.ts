/**
 * What a grammar worker runs. It is text so that it starts the same from the sources and from the built package. The engine's
 * package is a UMD module marked as an ES module: it is given `exports` and `require` by hand. An error inside it ends its
 * instance, so each grammar has a worker of its own and a hostile one harms no other.
 */
export const WORKER_SOURCE = `
const { parentPort, workerData } = require('node:worker_threads');
const { readFileSync } = require('node:fs');
const path = require('node:path');
const { enginePath, vocabulary, kind, vocabSize, endIds } = workerData;

// The engine tells why it stops on standard error only.
const said = [];
console.error = (...words) => said.push(words.join(' '));
console.warn = console.error;
const reason = (error) => {
  const fatal = said.splice(0).find((line) => line.includes('[FATAL]'));
  return fatal ? fatal.replace(/^.*?\\\\.(cc|h):\\\\d+: /, '') : String((error && error.message) || error);
};

const matchers = new Map();
let engine, compiled;

async function setUp() {
  const module = { exports: {} };
  const code = readFileSync(enginePath, 'utf8');
  new Function('exports', 'require', 'module', '__filename', '__dirname', code)(
    module.exports, require, module, enginePath, path.dirname(enginePath));
  engine = module.exports;
  const info = await engine.TokenizerInfo.createTokenizerInfo(vocabulary, kind, false, vocabSize, endIds);
  return engine.GrammarCompiler.createGrammarCompiler(info, false);
}

async function compile(compiler, { type, source }) {
  if (type === 'json') return compiler.compileJSONSchema(source, true, undefined, undefined, true, 8);
  if (type === 'grammar') return compiler.compileGrammar(source);
  const grammar = await engine.Grammar.fromStructuralTag({ type: 'regex', pattern: source });
  return compiler.compileGrammar(grammar);
}

const newMatcher = () => engine.GrammarMatcher.createGrammarMatcher(compiled, endIds);

// The mask of the next token; null: the text is complete.
async function state(matcher) {
  return { accepted: true, mask: matcher.isTerminated() ? null : await matcher.getNextTokenBitmask() };
}

const tasks = {
  async compile(spec) {
    compiled = await compile(await compiler, spec);
    return {};
  },
  // A matcher that has seen the tokens.
  async open({ id, tokens }) {
    const matcher = await newMatcher();
    matchers.set(id, matcher);
    for (const token of tokens) if (!matcher.acceptToken(token)) return { accepted: false, mask: null };
    return state(matcher);
  },
  async take({ id, token }) {
    const matcher = matchers.get(id);
    if (!matcher.acceptToken(token)) return { accepted: false, mask: null };
    return state(matcher);
  },
  async close({ id }) {
    const matcher = matchers.get(id);
    matchers.delete(id);
    if (matcher) matcher.dispose();
    return {};
  },
};

const compiler = setUp();
compiler.then(
  () => parentPort.postMessage({ ready: true }),
  (error) => parentPort.postMessage({ ready: false, error: reason(error) }));
let queue = Promise.resolve();
parentPort.on('message', ({ call, name, value }) => {
  queue = queue.then(() => tasks[name](value)).then(
    (result) => parentPort.postMessage({ call, result }),
    (error) => parentPort.postMessage({ call, error: reason(error) }));
});
`;
