/** What a canvas shows: the document that is edited, or the version that a run was of, which nobody moves. */
import { createContext, useContext } from 'react'
import type { StoreApi, UseBoundStore } from 'zustand'
import type { Mode } from '../api/client'
import type { Spec } from '../api/queries'
import { select, useDocument } from '../editor/document'
import type { Positions } from '../editor/merging'
import { MODES } from '../effects/rows'
import type { Flow } from '../model/graph'
import type { Marks } from '../model/marks'

export type Shown = { id: string | null; flow: Flow; positions: Positions; marks?: Marks; selected: string[] }
export type Source = {
  store: UseBoundStore<StoreApi<Shown>>
  select: (ids: string[]) => void
  isFixed: boolean
  /** The steps of the ladder on its cards. */
  modes: Mode[]
}

export const EDITED: Source = {
  store: useDocument as unknown as Source['store'],
  select,
  isFixed: false,
  modes: MODES,
}
export const CanvasSource = createContext<Source>(EDITED)
export const useSource = () => useContext(CanvasSource)
export function useShown<T>(read: (shown: Shown) => T): T {
  return useSource().store(read)
}

/** How it is drawn. Far away no letter can be read, so that cards and ways are without what is in them or on them. */
export const Drawn = createContext<{ isFar: boolean; catalog?: Record<string, Spec> | undefined }>({ isFar: false })
export const useDrawn = () => useContext(Drawn)
