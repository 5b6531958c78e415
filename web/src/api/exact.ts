/** JSON without loss: a number that a double cannot carry becomes an `Exact`, and goes out again digit by digit. */
export class Exact {
  constructor(readonly text: string) {}

  toString() {
    return this.text
  }

  toJSON() {
    return engine.rawJSON ? engine.rawJSON(this.text) : MARK + this.text
  }
}

type Reviver = (key: string, value: unknown, context?: { source: string }) => unknown
type ExactJson = { rawJSON?: (text: string) => unknown; parse: (text: string, reviver: Reviver) => unknown }

const engine = JSON as unknown as ExactJson

const revive: Reviver = (_key, value, context) =>
  typeof value === 'number' && context && String(value) !== context.source ? new Exact(context.source) : value

// Every number that a double would write in another way looks like one of these: 16 digits and more, zeros at the
// end, an exponent, a very small number, minus zero. A text without any is parsed without a reviver, in a fraction of the time.
const PERHAPS = /(?:^|[:,[])\s*-?(?:\d[\d.]{15}|\d+\.\d*0(?!\d)|\d[\d.]*[eE]|0\.0{6}|0(?![\d.])(?<=-0))/

// For browsers that neither tell a reviver a number's source nor have `rawJSON`: such numbers travel through the
// engine's own parser and writer as texts that begin with this. It is random, so no text of anybody begins so.
const MARK = `exact-${crypto.getRandomValues(new Uint32Array(4)).join('-')}:`
const MARKED = new RegExp(`"${MARK}([^"]*)"`, 'g')
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g

const unmark: Reviver = (_key, value) =>
  typeof value === 'string' && value.startsWith(MARK) ? new Exact(value.slice(MARK.length)) : value

let tellsSource = false
engine.parse('1', (_key, value, context) => {
  tellsSource = context?.source === '1'
  return value
})

function parseMarked(text: string): unknown {
  JSON.parse(text) // says what is wrong with it, before any of it is changed
  const marked = text.replace(TOKENS, (one) =>
    one.startsWith('"') || String(Number(one)) === one ? one : `"${MARK}${one}"`,
  )
  return engine.parse(marked, unmark)
}

export function parse(text: string): unknown {
  if (!PERHAPS.test(text)) return JSON.parse(text)
  return tellsSource ? engine.parse(text, revive) : parseMarked(text)
}

export function stringify(value: unknown, space?: number): string {
  const text = JSON.stringify(value, null, space) ?? ''
  return engine.rawJSON ? text : text.replace(MARKED, '$1')
}
