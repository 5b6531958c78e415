/** Milliseconds as a person counts them. */
const UNITS: [string, number][] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
  ['ms', 1],
]

/** 5400000 as "1 h 30 min"; empty for what is no whole number. */
export function inWords(text: string): string {
  if (!/^\d{4,15}$/.test(text)) return ''
  let left = Number(text)
  const parts: string[] = []
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size)
    if (count) parts.push(`${count} ${unit}`)
    left -= count * size
  }
  return parts.join(' ')
}
