/** The event that a trigger was last tried with, by workflow: what expressions are completed from before a first run. */
import { create } from 'zustand'
import type { Json } from '../api/client'

const useTrials = create<{ events: Record<string, Json> }>(() => ({ events: {} }))

export const keepTrial = (workflowId: string | null, event: Json) =>
  useTrials.setState(({ events }) => ({ events: { ...events, [workflowId ?? '']: event } }))

/** A run has begun, which has a payload of its own. */
export const forgetTrial = (workflowId: string | null) =>
  useTrials.setState(({ events: { [workflowId ?? '']: _, ...events } }) => ({ events }))

export const useTrial = (workflowId: string | null): Json | undefined => useTrials((s) => s.events[workflowId ?? ''])
