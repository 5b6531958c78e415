/** Completion of expressions: what earlier steps gave in the last run, and the functions of the language. */
import type { CompletionContext, CompletionResult } from '@codemirror/autocomplete'
import type { Json } from '../api/client'
import functions from './functions.json'
import { brief, type Context, walk } from './paths'

const BEFORE = 400
const PATH = /((?:\$?[A-Za-z_]\w*)(?:\.[A-Za-z_]\w*|\[\d+\]|\["[^"]*"\])*)\.(\w*)$/
const MOST = 300

type Function = (typeof functions)[number]
const optionOf = (one: Function) => ({
  label: one.name,
  type: 'function',
  detail: `(${one.args}) → ${one.gives}`,
  info: `${one.about}\n${one.example} → ${one.result}`,
  apply: `${one.name}(`,
})

/** `isBare`: the whole field is an expression, without braces. */
export const completing =
  (contextNow: () => Context, isBare: boolean) =>
  (at: CompletionContext): CompletionResult | null => {
    const text = at.state.sliceDoc(Math.max(0, at.pos - BEFORE), at.pos)
    if (!isBare && text.lastIndexOf('{{') <= text.lastIndexOf('}}')) return null
    const path = text.match(PATH)
    if (path) return afterDot(contextNow(), path[1] ?? '', at.pos - (path[2]?.length ?? 0))
    const word = at.matchBefore(/\$?\w*$/)
    if (!word || (word.from === word.to && !at.explicit && !text.endsWith('{{'))) return null
    const { roots } = contextNow()
    const names = Object.keys(roots).map((name) => ({
      label: name,
      type: 'variable',
      detail: brief(roots[name], 34),
      boost: name.startsWith('$') ? 40 : 60,
    }))
    return { from: word.from, validFor: /^\$?\w*$/, options: [...names, ...functions.map(optionOf)] }
  }

const isEmpty = (value: unknown) => typeof value === 'object' && value !== null && !Object.keys(value).length
/** The leaves of a shape are the names of their kinds. */
const detailOf = (value: unknown, isShape: boolean) => (isShape && typeof value === 'string' ? value : brief(value, 34))

function afterDot(context: Context, path: string, from: number): CompletionResult {
  const seen = walk(context, path).value
  const isShape = seen === undefined || seen === null || isEmpty(seen)
  const value = isShape ? (walk({ roots: context.shapes ?? {} }, path).value ?? seen) : seen
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
  const keys = isMap ? Object.keys(value).slice(0, MOST) : []
  const kind = Array.isArray(value)
    ? 'list'
    : typeof value === 'string' && (!isShape || value === 'string')
      ? 'string'
      : 'x'
  const fields = keys.map((label) => ({
    label,
    type: 'property',
    detail: detailOf((value as Json)[label], isShape),
    boost: 50,
  }))
  const methods = functions.filter((one) => one.args.includes(kind)).map(optionOf)
  return { from, validFor: /^\w*$/, options: [...fields, ...methods] }
}
