/** Which part of an editor's text a problem is about: the server counts characters of the one text that has it. */
import type { Problem } from '../api/client'

type Span = { from: number; to: number }

const STEP = /\.([^.[\]]+)|\[(\d+)\]/g

/** `held` is the field's value; where that is no text, the editor shows it as JSON, and the problem is inside. */
export function spanOf(shown: string, { field, start, end }: Problem, name?: string, held?: unknown): Span {
  const all = { from: 0, to: shown.length }
  if (!name || start === undefined || start === null || end === undefined || end === null) return all
  const inner = field?.split(`.payload.${name}`, 2)[1] ?? ''
  let text = held
  for (const [, key, index] of inner.matchAll(STEP)) text = (text as never)?.[key ?? (index as string)]
  if (typeof text !== 'string') return all
  const isWhole = text === held
  const encode = (part: string) => (isWhole ? part : JSON.stringify(part).slice(1, -1))
  const at = isWhole ? 0 : shown.indexOf(`"${encode(text)}"`) + 1
  if (!isWhole && !at) return all
  const characters = [...text]
  const place = (count: number) => at + encode(characters.slice(0, count).join('')).length
  // what the text has become meanwhile may be shorter
  const from = Math.max(0, Math.min(place(start), shown.length - 1))
  return { from, to: Math.min(shown.length, Math.max(from, place(end))) }
}
