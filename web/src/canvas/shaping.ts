/** What the steps are to the spend that is explained; as long as one is. */
import { create } from 'zustand'

export type Level = 'data' | 'decides'
export const useShaping = create<{ levels: Record<string, Level> }>(() => ({ levels: {} }))
