/** Who did something, for people: "you", the name of a key where the reader may know it, else its id. */
import { may } from '../model/rights'
import { words } from '../words'
import { useEveryOne, useMe } from './queries'

export function useWho(): (keyId: string | null | undefined) => string {
  const me = useMe().data
  const keys = useEveryOne('/v1/api-keys', may(me, 'key:read'))
  return (keyId) => {
    if (!keyId) return ''
    if (keyId === me?.keyId) return words.you
    return keys.find((one) => one.id === keyId)?.name ?? keyId
  }
}
