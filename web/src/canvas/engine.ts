/** The layout engine in its worker. It takes longest to start of all that a canvas needs, so it begins on its own, and
 * lays out a small graph first: its code is compiled while the workflow is still on its way. */
import workerUrl from 'elkjs/lib/elk-worker.min.js?url'
import { OPTIONS } from './options'

const FIRST = {
  id: '@',
  children: [
    { id: 'a', width: 300, height: 58 },
    { id: 'b', width: 300, height: 58 },
    { id: 'c', width: 300, height: 58 },
  ],
  edges: [
    { id: 'ab', sources: ['a'], targets: ['b'] },
    { id: 'ac', sources: ['a'], targets: ['c'] },
  ],
  layoutOptions: OPTIONS,
}

const load = async () => {
  const worker = new Worker(workerUrl)
  const { default: Elk } = await import('elkjs/lib/elk-api.js')
  const elk = new Elk({ workerFactory: () => worker })
  void elk.layout(structuredClone(FIRST)).catch(() => {})
  return elk
}
let loading: ReturnType<typeof load> | null = null

export function engine() {
  loading ??= load()
  return loading
}
