/** What a run recorded of one step: of the item that is looked at, where the step is in a loop. */
import type { Json, Schemas } from '../api/client'
import type { Picked } from '../model/fold'
import { type Flow, loopsOf } from '../model/graph'

export type Outcome = Partial<Schemas['NodeAnswer']>

/** The loops around a step, outermost first. */
export function loopsAround(flow: Flow, id: string): string[] {
  const loops = loopsOf(flow)
  const found: string[] = []
  for (let at = loops[id]; at !== undefined && !found.includes(at); at = loops[at]) found.unshift(at)
  return found
}

/** From the outermost loop's record down to the step; undefined as long as an item has to be picked first. */
export function outcomeIn(kept: Outcome | null | undefined, around: string[], id: string, picked: Picked) {
  let at = kept
  for (const [i, loop] of around.entries()) {
    const index = picked[loop]
    if (index === undefined) return undefined
    const items = at?.iterations as Record<string, Outcome>[] | null | undefined
    at = items?.[index]?.[around[i + 1] ?? id]
  }
  return at ?? undefined
}

/** Where a step is in the run, as events write it: `each[3].pay`; null as long as an item has to be picked. */
export function pathOf(around: string[], id: string, picked: Picked): string | null {
  if (around.some((loop) => picked[loop] === undefined)) return null
  return [...around.map((loop) => `${loop}[${picked[loop]}]`), id].join('.')
}

/** The run that a step started, by what it gave. */
export const calledBy = (result: unknown): string | null => {
  const runId = (result as Json | null | undefined)?.runId
  return typeof runId === 'string' && runId.startsWith('run_') ? runId : null
}
