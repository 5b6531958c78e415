/** The differences that cards of the canvas show; empty outside the comparison of versions. */
import { create } from 'zustand'
import type { Difference } from './changes'

export const useDifferences = create<{ byNode: Record<string, Difference> }>(() => ({ byNode: {} }))
