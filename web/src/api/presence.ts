/** When a write needs more than a session that somebody may have left open: the person shows that they are there, with a
 * passkey or by their key, and the same request is sent once more. */
import { create } from 'zustand'

const BEARER_NEEDED = 403022
const PASSKEY_NEEDED = 403025
export const needsPresence = (code: number) => code === BEARER_NEEDED || code === PASSKEY_NEEDED

/** A key that goes with the request; true: the session counts as just begun; null: the refusal stands. */
export type Shown = string | true | null
type Ask = { answer: (shown: Shown) => void }

export const usePresence = create<{ ask: Ask | null }>(() => ({ ask: null }))

/** One question at a time: what is refused meanwhile is told as it is. Without a page that asks, the refusal stands. */
export const asker = { isThere: false }
export function showPresence(): Promise<Shown> {
  if (!asker.isThere || usePresence.getState().ask) return Promise.resolve(null)
  return new Promise((resolve) => {
    const answer = (shown: Shown) => {
      usePresence.setState({ ask: null })
      resolve(shown)
    }
    usePresence.setState({ ask: { answer } })
  })
}
