/** When the reader of this browser left: their last moment here before they came back. */
const SEEN = 'dustrun-seen'
const SINCE = 'dustrun-away-since'
const EVERY_MS = 60_000
/** Whoever looks elsewhere for less than this has not left. */
const AWAY_MS = 30 * 60_000

/** Null while nobody knows. */
export const leftAt = (): number | null => Number(sessionStorage.getItem(SINCE)) || null

/** A visit begins with a tab, or when it is looked at again after a while. */
export function noteSeen(): () => void {
  const note = () => {
    if (document.visibilityState !== 'visible') return
    const [seen, now] = [Number(localStorage.getItem(SEEN)), Date.now()]
    if (sessionStorage.getItem(SINCE) === null || (seen && now - seen > AWAY_MS))
      sessionStorage.setItem(SINCE, String(seen))
    localStorage.setItem(SEEN, String(now))
  }
  note()
  document.addEventListener('visibilitychange', note)
  const timer = setInterval(note, EVERY_MS)
  return () => {
    document.removeEventListener('visibilitychange', note)
    clearInterval(timer)
  }
}
