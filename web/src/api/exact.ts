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

export const parse = (text: string): unknown => engine.parse(text, revive)
export const stringify = (value: unknown, space?: number): string => JSON.stringify(value, null, space) ?? ''
