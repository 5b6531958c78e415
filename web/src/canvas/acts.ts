/** What a canvas offers beside its steps; nothing where nobody edits, or there are too many steps to draw more. */
import { create } from 'zustand'

type Acts = {
  /** Asks for a step after one, or between it and `before`. */
  add: ((after: string, before?: string) => void) | null
  menu: ((id: string, x: number, y: number) => void) | null
}
export const NO_ACTS: Acts = { add: null, menu: null }
export const useCanvasActs = create<Acts>(() => NO_ACTS)
