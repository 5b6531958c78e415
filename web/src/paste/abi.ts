/** The functions of a contract, from its ABI or from lines of signatures. Pure. */
import { parse } from '../api/exact'

export type Argument = { name: string; type: string }
export type ContractFunction = { signature: string; name: string; inputs: Argument[]; isRead: boolean }
type Parameter = { name?: string; type?: string; components?: Parameter[] }
type Entry = { type?: string; name?: string; inputs?: Parameter[]; outputs?: Parameter[]; stateMutability?: string }

const typeOf = (one: Parameter): string =>
  one.type?.startsWith('tuple')
    ? `(${(one.components ?? []).map(typeOf).join(',')})${one.type.slice('tuple'.length)}`
    : (one.type ?? '')
const listed = (all: Parameter[] = []) => all.map((one) => `${typeOf(one)}${one.name ? ` ${one.name}` : ''}`).join(', ')

/** What the text has; empty where it is neither an ABI nor signatures. */
export function functionsOf(text: string): ContractFunction[] {
  return fromJson(text) ?? text.split('\n').flatMap(fromLine)
}

function fromJson(text: string): ContractFunction[] | null {
  let found: unknown
  try {
    found = parse(text)
  } catch {
    return null
  }
  const entries = Array.isArray(found) ? found : (found as { abi?: unknown } | null)?.abi
  if (!Array.isArray(entries)) return null
  return (entries as Entry[])
    .filter((one) => one?.type === 'function' && one.name)
    .map((one) => {
      const isRead = one.stateMutability === 'view' || one.stateMutability === 'pure'
      const gives = one.outputs?.length ? ` returns (${listed(one.outputs)})` : ''
      return {
        signature: `${one.name}(${listed(one.inputs)})${isRead ? ' view' : ''}${gives}`,
        name: one.name ?? '',
        inputs: (one.inputs ?? []).map((input, i) => ({
          name: input.name || `argument ${i + 1}`,
          type: typeOf(input),
        })),
        isRead,
      }
    })
}

const LINE = /^\s*(?:function\s+)?([A-Za-z_$][\w$]*)\s*\(([^()]*)\)(.*)$/

function fromLine(line: string): ContractFunction[] {
  const [, name, args = '', rest = ''] = line.match(LINE) ?? []
  if (!name) return []
  const inputs = args
    .split(',')
    .map((one) => one.trim())
    .filter(Boolean)
    .map((one, i) => ({ type: one.split(/\s+/)[0] ?? '', name: one.split(/\s+/)[1] ?? `argument ${i + 1}` }))
  const isRead = /\b(view|pure)\b/.test(rest) || (/returns/.test(rest) && !/\b(payable|nonpayable)\b/.test(rest))
  return [
    {
      signature: line
        .replace(/^\s*function\s+/, '')
        .replace(/;\s*$/, '')
        .trim(),
      name,
      inputs,
      isRead,
    },
  ]
}
