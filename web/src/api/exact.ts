/** JSON without loss: a number that a double cannot carry becomes an `Exact`, and goes out again digit by digit. */
export class Exact {
  constructor(readonly text: string) {}

  toString() {
    return this.text
  }

  toJSON() {
    return rawJson(this.text)
  }
}

type Reviver = (key: string, value: unknown, context?: { source: string }) => unknown
type ExactJson = { rawJSON?: (text: string) => unknown; parse: (text: string, reviver: Reviver) => unknown }

const engine = JSON as unknown as ExactJson

const rawJson = (text: string): unknown => {
  if (!engine.rawJSON) throw new Error('This browser cannot write exact numbers; please use a newer one.')
  return engine.rawJSON(text)
}

const revive: Reviver = (_key, value, context) =>
  typeof value === 'number' && context && String(value) !== context.source ? new Exact(context.source) : value

// Every number that a double would write in another way looks like one of these: 16 digits and more, zeros at the
// end, an exponent, a very small number, minus zero. A text without any is parsed without a reviver, in a fraction of the time.
const PERHAPS = /(?:^|[:,[])\s*-?(?:\d[\d.]{15}|\d+\.\d*0(?!\d)|\d[\d.]*[eE]|0\.0{6}|0(?![\d.])(?<=-0))/

export const parse = (text: string): unknown => (PERHAPS.test(text) ? engine.parse(text, revive) : JSON.parse(text))
export const stringify = (value: unknown, space?: number): string => JSON.stringify(value, null, space) ?? ''
