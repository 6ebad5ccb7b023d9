import { Environment, Interpreter } from '@huggingface/jinja';
import { mismatch } from '../core/errors.js';
import { pythonStrip, pythonText } from './python-text.js';

// The part of the library's interpreter that is relied on: every expression and statement goes through `evaluate`. Its
// own types do not resolve under NodeNext.
interface Value {
  readonly type: string;
  readonly value: unknown;
  readonly builtins?: ReadonlyMap<string, Value>;
}
export interface TemplateEnvironment {
  set(name: string, value: unknown): Value;
}
interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}
type Evaluator = {
  /** The library returns nothing at all for `first` and `last` of an empty list. */
  evaluate(node: Node | undefined, environment: TemplateEnvironment): Value | undefined;
  /** The text of some statements; the library calls it for every body. */
  evaluateBlock(statements: readonly Node[], environment: TemplateEnvironment): Value;
  run(program: unknown): Value;
};
const Base = Interpreter as unknown as new (environment: TemplateEnvironment) => Evaluator;
const NewEnvironment = Environment as unknown as new () => TemplateEnvironment;

export interface TemplateBudget {
  /** Evaluated nodes, and a share for the size of what they handle. */
  readonly steps: number;
  /** UTF-16 units of the output and of every value on the way. */
  readonly chars: number;
}

/** A value held as a node, so that an operation can be given operands that were measured before. */
interface HeldNode extends Node {
  readonly type: 'Held';
  readonly value: Value;
}

/** What a value is as JSON text, roughly: characters of strings, number of values, depth. */
interface Size {
  chars: number;
  nodes: number;
  depth: number;
}

// One step pays for this many characters or items that an operation may walk through (a power of two, as a shift).
const CHARS_PER_STEP = 8;
const ITEMS_PER_STEP = 6;
const DEEPEST = 256;
// A loop makes scopes for every item, even around an empty body: 4 us, as long as four common steps.
const STEPS_PER_ROUND = 4;
const MOST_ITEMS = 1 << 20;

/**
 * Runs templates from strangers: counts steps, and measures operations that can make much out of little (join, replace,
 * indent, tojson, nested lists written out) before they run. A spent budget is ERR_TEMPLATE.
 */
export class TemplateInterpreter extends Base {
  readonly #budget: TemplateBudget;
  readonly #sizes = new WeakMap<object, Size>();
  readonly #loops = new WeakSet<object>();
  #steps = 0;

  constructor(environment: TemplateEnvironment, budget: TemplateBudget) {
    super(environment);
    this.#budget = budget;
  }

  override evaluate(node: Node | undefined, environment: TemplateEnvironment): Value {
    if (node?.type === 'Held') return (node as HeldNode).value;
    this.#charge(1);
    const value = this.#dispatch(node, environment) ?? (super.evaluate(undefined, environment) as Value);
    this.#pay(value, node !== undefined && this.#loops.has(node));
    return value;
  }

  /** Values stand in the output as Python writes them. */
  override evaluateBlock(statements: readonly Node[], environment: TemplateEnvironment): Value {
    let text = '';
    for (const statement of statements) {
      const value = this.evaluate(statement, environment);
      // These statements give no value; the library has null for it.
      if (value.type === 'NullValue' && silent.has(statement.type)) continue;
      text += pythonText(value);
      this.#limit(text.length);
    }
    return this.#string(text);
  }

  #string(value: string): Value {
    return super.evaluate({ type: 'StringLiteral', value }, templateEnvironment(String)) as Value;
  }

  #dispatch(node: Node | undefined, environment: TemplateEnvironment): Value | undefined {
    switch (node?.type) {
      case 'For': {
        const iterable = node.iterable as Node;
        this.#loops.add(iterable.type === 'SelectExpression' ? (iterable.lhs as Node) : iterable);
        return super.evaluate(node, environment);
      }
      case 'FilterExpression':
        return this.#filter(
          this.evaluate(node.operand as Node, environment),
          node.filter as Node,
          environment,
        );
      case 'FilterStatement': {
        const body = this.evaluate({ type: 'Program', body: node.body }, environment);
        return this.#filter(body, node.filter as Node, environment);
      }
      case 'MemberExpression':
        return this.#member(node, environment);
      case 'BinaryExpression':
        return this.#binary(node, environment);
      default:
        return super.evaluate(node, environment);
    }
  }

  #filter(operand: Value, filter: Node, environment: TemplateEnvironment): Value | undefined {
    const name = String(((filter.type === 'CallExpression' ? filter.callee : filter) as Node).value);
    if ((name === 'trim' || name === 'string') && filter.type !== 'CallExpression') {
      const text = pythonText(operand);
      return this.#string(name === 'trim' ? pythonStrip(text, undefined, 'both') : text);
    }
    let call = filter;
    if (filter.type === 'CallExpression' && growing.has(name)) {
      const args = (filter.args as Node[]).map((arg) => this.#hold(arg, environment));
      call = { ...filter, args };
      this.#measureFilter(name, operand, args);
    } else if (growing.has(name)) {
      this.#measureFilter(name, operand, []);
    }
    return super.evaluate({ type: 'FilterExpression', operand: held(operand), filter: call }, environment);
  }

  /** `~` joins texts as Python writes them; `+` joins a text with a text only. */
  #binary(node: Node, environment: TemplateEnvironment): Value | undefined {
    const operator = (node.operator as { value?: unknown }).value;
    if (operator !== '+' && operator !== '~') return super.evaluate(node, environment);
    const left = this.evaluate(node.left as Node, environment);
    const right = this.evaluate(node.right as Node, environment);
    if (operator === '~') return this.#string(pythonText(left) + pythonText(right));
    if ((left.type === 'StringValue') !== (right.type === 'StringValue'))
      throw refusal(`${left.type} + ${right.type}`, 'texts on both sides');
    return super.evaluate({ ...node, left: held(left), right: held(right) }, environment);
  }

  /** Evaluates an argument; unpacked ones cannot be measured. */
  #hold(arg: Node, environment: TemplateEnvironment): Node {
    if (arg.type === 'KeywordArgumentExpression') {
      return { ...arg, value: held(this.evaluate(arg.value as Node, environment)) };
    }
    if (arg.type.endsWith('SpreadExpression'))
      throw refusal('unpacked arguments of a filter', 'plain arguments');
    return held(this.evaluate(arg, environment));
  }

  #measureFilter(name: string, operand: Value, args: Node[]): void {
    const values = args.map(
      (arg) => (arg.type === 'Held' ? arg.value : (arg.value as HeldNode).value) as Value,
    );
    const keyword = args.findIndex((arg) => (arg.key as Node | undefined)?.value === 'indent');
    switch (name) {
      case 'replace':
        this.#measureReplace(operand, values);
        break;
      case 'join': {
        const separators = Array.isArray(operand.value) ? operand.value.length : textOf(operand).length;
        const { chars, nodes } = this.#size(operand);
        this.#limit(chars + 4 * nodes + separators * textOf(values[0]).length);
        break;
      }
      case 'indent': {
        const lines = textOf(operand).split('\n').length;
        const widest = Math.max(4, ...values.map((value) => Number(value?.value) || 0));
        this.#limit(textOf(operand).length + lines * widest);
        break;
      }
      case 'tojson': {
        const { chars, nodes, depth } = this.#size(operand);
        const indent = keyword < 0 ? 0 : Number(values[keyword].value) || 0;
        const separators = values.reduce((sum, value) => sum + this.#size(value).chars, 4);
        this.#limit(2 * chars + nodes * (separators + indent * (depth + 1)));
        break;
      }
    }
  }

  /** `text.replace(a, b)` and `text.split(a)` can be called from anywhere, so the methods themselves are measured. */
  #member(node: Node, environment: TemplateEnvironment): Value | undefined {
    const object = this.evaluate(node.object as Node, environment);
    const value = super.evaluate({ ...node, object: held(object) }, environment);
    if (object.type !== 'StringValue' || value?.type !== 'FunctionValue') return value;
    const strips = STRIPS.find(([name]) => value === object.builtins?.get(name));
    if (strips !== undefined) {
      const strip = (args: Value[]) =>
        this.#string(pythonStrip(textOf(object), args[0] && textOf(args[0]), strips[1]));
      return Reflect.construct(value.constructor, [strip]) as Value;
    }
    let measure: (args: Value[]) => void;
    if (value === object.builtins?.get('replace')) measure = (args) => this.#measureReplace(object, args);
    else if (value === object.builtins?.get('split')) measure = (args) => this.#measureSplit(object, args[0]);
    else return value;
    const method = value.value as (args: Value[], scope: unknown) => Value;
    const measured = (args: Value[], scope: unknown) => {
      measure(args);
      return method(args, scope);
    };
    return Reflect.construct(value.constructor, [measured]) as Value;
  }

  #measureReplace(operand: Value, args: (Value | undefined)[]): void {
    const text = textOf(operand);
    this.#limit(text.length + countOf(text, textOf(args[0])) * textOf(args[1]).length);
  }

  #measureSplit(operand: Value, separator: Value | undefined): void {
    const text = textOf(operand);
    // Without a separator, words: at most one for every two characters.
    this.#limitItems(
      separator?.type === 'StringValue' ? countOf(text, textOf(separator)) : text.length >>> 1,
    );
  }

  #pay(value: Value, isLoop: boolean): void {
    const inner = value.value;
    if (typeof inner === 'string') {
      this.#limit(inner.length);
      this.#charge(inner.length >>> CHARS_PER_STEP);
    } else if (Array.isArray(inner) || inner instanceof Map) {
      const { chars, nodes } = this.#size(value);
      this.#limit(chars + nodes);
      const items = Array.isArray(inner) ? inner.length : inner.size;
      this.#limitItems(items);
      this.#charge(isLoop ? items * STEPS_PER_ROUND : items >>> ITEMS_PER_STEP);
    }
  }

  #charge(steps: number): void {
    this.#steps += steps;
    if (this.#steps <= this.#budget.steps) return;
    throw refusal(`more than ${this.#budget.steps} steps`, 'a template that ends sooner');
  }

  #limit(chars: number): void {
    if (chars <= this.#budget.chars) return;
    throw refusal(`more than ${this.#budget.chars} characters`, 'a shorter output');
  }

  #limitItems(items: number): void {
    if (items > MOST_ITEMS) throw refusal(`a list of more than ${MOST_ITEMS}`, 'a shorter one');
  }

  /** Size of a value as if written out: a list that holds another one twice counts it twice. */
  #size(value: Value | undefined, depth = 0): Size {
    const inner = value?.value;
    if (typeof inner === 'string') return { chars: inner.length, nodes: 1, depth: 0 };
    if (value === undefined || !(Array.isArray(inner) || inner instanceof Map))
      return { chars: 0, nodes: 1, depth: 0 };
    const known = this.#sizes.get(value);
    if (known !== undefined) return known;
    if (depth > DEEPEST) throw refusal(`values nested ${depth} deep`, `at most ${DEEPEST}`);
    const size: Size = { chars: 0, nodes: 1, depth: 0 };
    // A namespace can change later, and with it every list that holds it.
    let changes = value.type === 'NamespaceValue';
    const add = (item: Value | undefined) => {
      const each = this.#size(item, depth + 1);
      size.chars += each.chars;
      size.nodes += each.nodes;
      size.depth = Math.max(size.depth, each.depth + 1);
      if (item !== undefined && isContainer(item) && !this.#sizes.has(item)) changes = true;
      this.#limit(size.chars + size.nodes);
    };
    if (inner instanceof Map) {
      for (const [key, item] of inner as Map<string, Value>) {
        size.chars += key.length;
        add(item);
      }
    } else {
      for (const item of inner as Value[]) add(item);
    }
    if (changes) this.#charge(size.nodes >>> ITEMS_PER_STEP);
    else this.#sizes.set(value, size);
    return size;
  }
}

/** Statements without a value. */
const silent: ReadonlySet<string> = new Set(['Set', 'Macro', 'Comment', 'Break', 'Continue']);

const STRIPS = [
  ['strip', 'both'],
  ['lstrip', 'left'],
  ['rstrip', 'right'],
] as const;

/** Filters whose result can be much longer than their operand. */
const growing: ReadonlySet<string> = new Set(['replace', 'join', 'indent', 'tojson']);

const held = (value: Value | undefined): Node => ({ type: 'Held', value });
const textOf = (value: Value | undefined): string => (typeof value?.value === 'string' ? value.value : '');

/** How often `part` occurs; an empty part stands between any two characters. */
function countOf(text: string, part: string): number {
  if (part === '') return text.length + 1;
  let count = 0;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + part.length)) count++;
  return count;
}

const isContainer = (value: Value): boolean => Array.isArray(value.value) || value.value instanceof Map;

export const refusal = (got: string, expected: string) =>
  mismatch('ERR_TEMPLATE', 'chat template', got, expected);

// As in Python's sandbox for templates.
const LONGEST_RANGE = 100_000;

function range(...args: unknown[]): number[] {
  const [start, stop, step] = args.length < 2 ? [0, args[0], 1] : [args[0], args[1], args[2] ?? 1];
  const whole = [start, stop, step].every((value) => Number.isSafeInteger(value));
  if (!whole || step === 0)
    throw refusal(`range(${args.join(', ')})`, 'whole numbers and a step other than 0');
  const [from, to, by] = [start, stop, step] as number[];
  const length = Math.max(0, Math.ceil((to - from) / by));
  if (length > LONGEST_RANGE) throw refusal(`a range of ${length}`, `at most ${LONGEST_RANGE}`);
  return Array.from({ length }, (_, i) => from + i * by);
}

/** A scope with what templates may call, and nothing of the host. */
export function templateEnvironment(strftimeNow: (format: string) => string): TemplateEnvironment {
  const environment = new NewEnvironment();
  for (const [name, value] of Object.entries({ true: true, false: false, none: null })) {
    environment.set(name, value);
    environment.set(name[0].toUpperCase() + name.slice(1), value);
  }
  environment.set('raise_exception', (message: unknown) => {
    throw mismatch(
      'ERR_TEMPLATE',
      'chat template',
      `a refusal: ${String(message)}`,
      'messages the template accepts',
    );
  });
  environment.set('range', range);
  environment.set('strftime_now', (format: unknown) => strftimeNow(String(format)));
  return environment;
}
