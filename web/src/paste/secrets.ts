/** What could be a secret in a step's settings, by its name or its shape: the rules of the server's exports. */
import { Exact } from '../api/exact'
import rules from './secrets.json'

const NAME = new RegExp(rules.name, 'i')
const SHAPE = new RegExp(rules.shape, 'i')

export const isSecretName = (name: string) => NAME.test(name)

/** What a text says itself: all but its expressions, and each text within them. */
const literals = (text: string) => [
  text.replace(/\{\{[\s\S]*?\}\}/g, ''),
  ...[...text.matchAll(/\{\{[\s\S]*?\}\}/g)].flatMap(([expression]) =>
    [...expression.matchAll(/"([^"]*)"|'([^']*)'/g)].map((found) => found[1] ?? found[2] ?? ''),
  ),
]

export const isSecret = (value: unknown, isNamed: boolean) => {
  if (typeof value === 'number' || value instanceof Exact) return isNamed
  if (typeof value !== 'string' || !value) return false
  return (isNamed && !value.includes('{{')) || literals(value).some((text) => SHAPE.test(text))
}

/** The value without what could be a secret; `leave` is told where each one was. */
export function withoutSecrets(
  value: unknown,
  isNamed: (name: string) => boolean,
  leave: (path: string) => void,
  path = '',
): unknown {
  const inner = (key: string, one: unknown, isOne: boolean): unknown[] => {
    const at = path ? `${path}.${key}` : key
    if (isSecret(one, isOne)) {
      leave(at)
      return []
    }
    return [withoutSecrets(one, isOne ? () => true : isSecretName, leave, at)]
  }
  if (Array.isArray(value)) return value.flatMap((one, i) => inner(String(i), one, isNamed('')))
  if (typeof value !== 'object' || value === null || value instanceof Exact) return value
  const named = Object.fromEntries(Object.entries(value))
  const isPair = isSecretName(String(named.name ?? named.key ?? ''))
  const isSchema = /(^|\.)properties$/.test(path) // there a name names a field, not what the field holds
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) =>
      inner(key, one, (isNamed(key) && !isSchema) || (isPair && key === 'value')).map((kept) => [key, kept]),
    ),
  )
}
