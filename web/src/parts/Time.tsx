/** A moment: how long ago in the text, exactly in the title. */
import { useEffect, useState } from 'react'

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' })
const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
]

export function ago(at: string, now: number): string {
  const seconds = Math.round((Date.parse(at) - now) / 1000)
  if (Math.abs(seconds) > 14 * 86_400) return new Date(at).toLocaleDateString('en', { dateStyle: 'medium' })
  // seven days less a moment are seven days
  for (const [unit, size] of UNITS)
    if (Math.abs(seconds) >= size * 0.99) return relative.format(Math.trunc((seconds / size) * 1.01), unit)
  return Math.abs(seconds) < 5 ? 'now' : relative.format(seconds, 'second')
}

export function Time({ at }: { at?: string | null }) {
  const [now, setNow] = useState(Date.now)
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 20_000)
    return () => clearInterval(timer)
  }, [])
  if (!at) return null
  return (
    <time dateTime={at} title={new Date(at).toLocaleString('en', { dateStyle: 'full', timeStyle: 'long' })}>
      {ago(at, now)}
    </time>
  )
}

/** How long something took; null while it goes on. */
export function took(from?: string | null, to?: string | null): string {
  if (!from || !to) return ''
  const ms = Date.parse(to) - Date.parse(from)
  if (ms < 1000) return `${ms} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor((ms % 60_000) / 1000)} s`
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`
}
