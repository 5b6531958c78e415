/** The settings of a step with known values in the place of its expressions: what a test of the step begins with. Pure. */
import { Exact, stringify } from '../api/exact'

type Known = (expression: string) => { found: boolean; value?: unknown }
const EXPRESSION = /\{\{\s*([\s\S]*?)\s*\}\}/g
const WHOLE = /^\{\{\s*((?:(?!\}\})[\s\S])*?)\s*\}\}$/

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Exact)

/** The expressions within settings, each once; `{{{{` writes braces and is none. */
export function expressionsIn(value: unknown): string[] {
  const found = new Set<string>()
  const visit = (one: unknown) => {
    if (typeof one === 'string') {
      if (!one.includes('{{{{')) for (const [, text = ''] of one.matchAll(EXPRESSION)) found.add(text)
    } else if (Array.isArray(one)) one.forEach(visit)
    else if (isMap(one)) Object.values(one).forEach(visit)
  }
  visit(value)
  return [...found]
}

const asText = (value: unknown) => (typeof value === 'string' ? value : value === null ? '' : stringify(value))

/** A text that is one expression becomes its value; within a text a value is written out, as the server does. */
export function resolved(value: unknown, known: Known): unknown {
  if (typeof value === 'string') {
    if (value.includes('{{{{')) return value
    const whole = value.match(WHOLE)
    if (whole) {
      const one = known(whole[1] ?? '')
      return one.found ? one.value : value
    }
    return value.replace(EXPRESSION, (all, text: string) => {
      const one = known(text)
      return one.found ? asText(one.value) : all
    })
  }
  if (Array.isArray(value)) return value.map((one) => resolved(one, known))
  if (!isMap(value)) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, resolved(one, known)]))
}
