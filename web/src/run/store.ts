/** The run that is shown: its events, the moment that is looked at, and the state of each node at that moment. */
import { create } from 'zustand'
import { follow, type RunEvent } from '../api/stream'
import { fold, merge, type NodeStates } from '../model/fold'

type RunStore = {
  runId: string | null
  events: RunEvent[]
  cursor: number | null
  nodes: NodeStates
  isOpen: boolean
  isLost: boolean
  isPlaying: boolean
  scrub: (cursor: number | null) => void
  togglePlay: () => void
}

export const useRunStore = create<RunStore>((set, get) => ({
  runId: null,
  events: [],
  cursor: null,
  nodes: {},
  isOpen: false,
  isLost: false,
  isPlaying: false,
  scrub: (cursor) => {
    const { events } = get()
    const at = cursor === null || cursor >= events.length ? null : Math.max(1, cursor)
    set({ cursor: at, nodes: fold(events, at ?? events.length) })
  },
  togglePlay: () => {
    const { events, cursor, isPlaying, scrub } = get()
    if (!events.length) return
    if (!isPlaying && (cursor ?? events.length) >= events.length) scrub(1)
    set({ isPlaying: !isPlaying })
  },
}))

/** Shows a run from its first event on; gives what ends it. `onEnd` is told when there will be no more. */
export function show(runId: string, onEnd: () => void): () => void {
  useRunStore.setState({ runId, events: [], cursor: null, nodes: {}, isOpen: true, isLost: false, isPlaying: false })
  const isShown = () => useRunStore.getState().runId === runId
  const stop = follow(runId, {
    take: (more) => {
      if (!isShown()) return
      const events = merge(useRunStore.getState().events, more)
      const isNow = useRunStore.getState().cursor === null
      useRunStore.setState(isNow ? { events, nodes: fold(events, events.length) } : { events })
    },
    end: () => {
      if (!isShown()) return
      useRunStore.setState({ isOpen: false, isLost: false })
      onEnd()
    },
    lost: (isLost) => isShown() && useRunStore.setState({ isLost }),
  })
  return () => {
    stop()
    if (isShown()) useRunStore.setState({ runId: null, events: [], cursor: null, nodes: {}, isOpen: false })
  }
}
