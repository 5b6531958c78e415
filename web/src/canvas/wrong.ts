/** How many problems each node has, so that a card is drawn anew only when its own number changes. */
import { create } from 'zustand'

export const useWrong = create<{ counts: Record<string, number> }>(() => ({ counts: {} }))
