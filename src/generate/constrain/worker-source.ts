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
  return fatal ? fatal.replace(/^.*?\\.(cc|h):\\d+: /, '') : String((error && error.message) || error);
};

let engine, grammar, compiled;

// Tokens that a matcher goes, rather than that another is made.
const NEAR = 16;
const MOST_MATCHERS = 128;

async function setUp() {
  const module = { exports: {} };
  const code = readFileSync(enginePath, 'utf8');
  new Function('exports', 'require', 'module', '__filename', '__dirname', code)(
    module.exports, require, module, enginePath, path.dirname(enginePath));
  engine = module.exports;
  const info = await engine.TokenizerInfo.createTokenizerInfo(vocabulary, kind, false, vocabSize, endIds);
  return engine.GrammarCompiler.createGrammarCompiler(info, false);
}

function parse({ type, source, layout }) {
  const { Grammar } = engine;
  if (type === 'json' && layout === 'line') return Grammar.fromJSONSchema(source, false, -1, [', ', ': '], true);
  if (type === 'json') return Grammar.fromJSONSchema(source, true, undefined, undefined, true, 8);
  if (type === 'grammar') return Grammar.fromEBNF(source);
  return Grammar.fromStructuralTag({ type: 'regex', pattern: source });
}

// Matchers stand behind texts, and each may be led behind another: back to where both part, and forward from there.
const matchers = [];

async function matcherFor(tokens) {
  const places = matchers.map((one) => {
    let same = 0;
    while (same < tokens.length && one.tokens[same] === tokens[same]) same++;
    return { one, same, steps: one.tokens.length + tokens.length - 2 * same };
  });
  let best = places.reduce((a, b) => (b.steps < a.steps ? b : a), { steps: Infinity });
  if (best.steps > NEAR && matchers.length < MOST_MATCHERS) {
    best = { one: { matcher: await engine.GrammarMatcher.createGrammarMatcher(compiled, endIds), tokens: [] }, same: 0 };
    matchers.push(best.one);
  }
  const { one, same } = best;
  const back = one.tokens.length - same;
  if (back > 0) one.matcher.rollBack(back);
  one.tokens.length = same;
  return one;
}

// A matcher behind the tokens; null: the grammar does not allow them.
async function behind(tokens) {
  const one = await matcherFor(tokens);
  while (one.tokens.length < tokens.length) {
    const token = tokens[one.tokens.length];
    if (one.matcher.isTerminated() || !one.matcher.acceptToken(token)) return null;
    one.tokens.push(token);
  }
  return one.matcher;
}

const tasks = {
  async parse(spec) {
    await compiler;
    grammar = await parse(spec);
    return {};
  },
  // For each state of the grammar which tokens may stand there.
  async compile() {
    compiled = await (await compiler).compileGrammar(grammar);
    return {};
  },
  // What may stand behind the tokens. mask null: the text is complete.
  async state({ tokens }) {
    const matcher = await behind(tokens);
    if (!matcher) return { accepted: false, mask: null };
    return { accepted: true, mask: matcher.isTerminated() ? null : await matcher.getNextTokenBitmask() };
  },
  // The text that must stand behind the tokens.
  async forced({ tokens }) {
    const matcher = await behind(tokens);
    return matcher && !matcher.isTerminated() ? matcher.findJumpForwardString() : '';
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
