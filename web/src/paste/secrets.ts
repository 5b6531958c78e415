/** What could be a secret in a step's settings, by its name or its shape; the server's exports go by the same rules. */
import { Exact } from '../api/exact'

const NAMES =
  'authorization|cookie|secret|password|passphrase|api[_-]?key|private[_-]?key|mnemonic|(?:access|auth|bearer|refresh|session|bot)[_-]?token'
const NAME = new RegExp(`(${NAMES})$|^x-.*(token|key|secret)$`, 'i')
const SHAPE = new RegExp(
  [
    String.raw`^(bearer|basic) \S{8}`,
    String.raw`\b(sk|st|whsec|ghp|xox[abp])[_-][a-z0-9_-]{16}`,
    `[?&](token|access_token|secret|api_?key|signature)=[^&{]{4}`,
    String.raw`:\/\/[^/\s:@]*:[^/\s@]+@`,
    `"(${NAMES})"\\s*:\\s*"[^"]`,
    `(^|&)(${NAMES})=[^&]`,
  ].join('|'),
  'i',
)

export const isSecretName = (name: string) => NAME.test(name)

/** What a text says itself: all but its expressions, and each text within them. */
const literals = (text: string) => [
  text.replace(/\{\{[\s\S]*?\}\}/g, ''),
  ...[...text.matchAll(/\{\{[\s\S]*?\}\}/g)].flatMap(([expression]) =>
    [...expression.matchAll(/"([^"]*)"|'([^']*)'/g)].map((found) => found[1] ?? found[2] ?? ''),
  ),
]

const isSecret = (value: unknown, isNamed: boolean) => {
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
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) =>
      inner(key, one, isNamed(key) || (isPair && key === 'value')).map((kept) => [key, kept]),
    ),
  )
}
