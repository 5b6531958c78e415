/** The run that is shown: its events, the moment that is looked at, and the state of each node at that moment. */
import { create } from 'zustand'
import { follow, type RunEvent } from '../api/stream'
import { fold, merge, type NodeStates, type Picked } from '../model/fold'

type RunStore = {
  runId: string | null
  events: RunEvent[]
  cursor: number | null
  nodes: NodeStates
  /** Of a retry: the steps whose results it keeps, of which it has no events. */
  kept: NodeStates
  picked: Picked
  isOpen: boolean
  isLost: boolean
  isPlaying: boolean
  scrub: (cursor: number | null) => void
  togglePlay: () => void
  pick: (loop: string, index: number | null) => void
  keep: (kept: NodeStates) => void
}

export const useRunStore = create<RunStore>((set, get) => ({
  runId: null,
  events: [],
  cursor: null,
  nodes: {},
  kept: {},
  picked: {},
  isOpen: false,
  isLost: false,
  isPlaying: false,
  scrub: (cursor) => {
    const { events, picked, kept } = get()
    const at = cursor === null || cursor >= events.length ? null : Math.max(1, cursor)
    set({ cursor: at, nodes: { ...kept, ...fold(events, at ?? events.length, picked) } })
  },
  togglePlay: () => {
    const { events, cursor, isPlaying, scrub } = get()
    if (!events.length) return
    if (!isPlaying && (cursor ?? events.length) >= events.length) scrub(1)
    set({ isPlaying: !isPlaying })
  },
  pick: (loop, index) => {
    const { events, cursor, kept, picked: old } = get()
    const { [loop]: _, ...others } = old
    const picked = index === null ? others : { ...others, [loop]: index }
    set({ picked, nodes: { ...kept, ...fold(events, cursor ?? events.length, picked) } })
  },
  keep: (kept) => {
    const { events, cursor, picked } = get()
    set({ kept, nodes: { ...kept, ...fold(events, cursor ?? events.length, picked) } })
  },
}))

const NOTHING = { events: [], cursor: null, nodes: {}, kept: {}, picked: {}, isLost: false, isPlaying: false }

/** Shows a run from its first event on; gives what ends it. `onEnd` is told when there will be no more. */
export function show(runId: string, onEnd: () => void): () => void {
  useRunStore.setState({ ...NOTHING, runId, isOpen: true })
  const isShown = () => useRunStore.getState().runId === runId
  const stop = follow(runId, {
    take: (more) => {
      if (!isShown()) return
      const { events: old, cursor, kept, picked } = useRunStore.getState()
      const events = merge(old, more)
      useRunStore.setState(
        cursor === null ? { events, nodes: { ...kept, ...fold(events, events.length, picked) } } : { events },
      )
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
    if (isShown()) useRunStore.setState({ ...NOTHING, runId: null, isOpen: false })
  }
}
