/** From when on the first page tells: since the reader left, last night, a day, a week. */
export type Span = 'left' | 'night' | 'day' | 'week'
export const SPANS: Span[] = ['left', 'night', 'day', 'week']

const HOUR_MS = 3_600_000
const EVENING = 18

/** `leftAt`: when the reader was last here; a day ago where nobody knows. Last night begins at six in the evening. */
export function sinceOf(span: Span, now: Date, leftAt: number | null): Date {
  if (span === 'week') return new Date(now.getTime() - 7 * 24 * HOUR_MS)
  if (span === 'night') {
    const evening = new Date(now)
    evening.setHours(EVENING, 0, 0, 0)
    if (now.getHours() < EVENING || evening > now) evening.setDate(evening.getDate() - 1)
    return evening
  }
  if (span === 'left' && leftAt !== null) return new Date(leftAt)
  return new Date(now.getTime() - 24 * HOUR_MS)
}

type Run = { id: string; workflowId: string; workflowName: string; status: string; startedAt: string }
export type Strip = { workflowId: string; name: string; runs: Run[] }

/** Runs, newest first, as one strip for each workflow, oldest run first in it; the workflow that ran last is first. */
export function stripsOf(runs: Run[]): Strip[] {
  const found = new Map<string, Strip>()
  for (const run of runs) {
    const strip = found.get(run.workflowId) ?? { workflowId: run.workflowId, name: run.workflowName, runs: [] }
    strip.runs.unshift(run)
    found.set(run.workflowId, strip)
  }
  return [...found.values()]
}
