/** A conversation as it happens. The browser reconnects by itself, and continues after the last event that it saw. */
import { useQuery } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { get, type Schemas } from '../api/client'
import { parse } from '../api/exact'
import { PAGE, refresh } from '../api/queries'
import { fold, type Live, NOTHING, type TurnEvent } from './parts'

export type Message = Schemas['MessageAnswer']

/** All types: an EventSource drops what it has no listener for. tests/web compares them with the OpenAPI document. */
export const TURN_EVENTS = [
  'turn_started',
  'text_delta',
  'tool_started',
  'tool_finished',
  'run_linked',
  'approval_requested',
  'approval_decided',
  'turn_finished',
  'turn_failed',
] as const
const QUIET = new Set<string>(['text_delta', 'tool_started'])
const PAUSE_MS = 150
const FIRST_PAUSE_MS = 1_000
const LAST_PAUSE_MS = 30_000

async function readAll(id: string): Promise<Message[]> {
  const all: Message[] = []
  for (let hasMore = true; hasMore; ) {
    const query = { limit: PAGE, offset: all.length }
    const page = await get('/v1/conversations/{id}/messages', { path: { id }, query })
    all.push(...page.items)
    hasMore = page.hasMore && page.items.length > 0
  }
  return all
}

/** What is stored, and what has happened since; each event is on disk before it comes. */
export function useConversation(id: string) {
  const found = useQuery({ queryKey: ['messages', id], queryFn: () => readAll(id) })
  const [live, setLive] = useState<Live>(NOTHING)
  const [isLost, setIsLost] = useState(false)
  useEffect(() => {
    let source: EventSource
    let queue: TurnEvent[] = []
    let [frame, timer, again, seen, pause] = [0, 0, 0, 0, FIRST_PAUSE_MS]
    const flush = () => {
      frame = 0
      const events = queue
      queue = []
      setLive((old) => fold(old, events))
      if (timer || events.every((event) => QUIET.has(event.type))) return
      timer = window.setTimeout(() => {
        timer = 0
        void refresh('messages', 'effects', '/v1/approvals', 'workflow', '/v1/conversations')
      }, PAUSE_MS)
    }
    const take = (message: MessageEvent<string>) => {
      const event = parse(message.data) as TurnEvent
      seen = event.seq
      queue.push(event)
      frame ||= requestAnimationFrame(flush)
    }
    // the browser gives up for good when a server that is just starting answers 503
    const open = () => {
      source = new EventSource(`/v1/conversations/${encodeURIComponent(id)}/stream?lastEventId=${seen}`)
      for (const type of TURN_EVENTS) source.addEventListener(type, take)
      source.addEventListener('open', () => {
        pause = FIRST_PAUSE_MS
        setIsLost(false)
      })
      source.addEventListener('error', () => {
        setIsLost(true)
        if (source.readyState !== EventSource.CLOSED) return
        again = window.setTimeout(open, pause)
        pause = Math.min(pause * 2, LAST_PAUSE_MS)
      })
    }
    open()
    return () => {
      source.close()
      cancelAnimationFrame(frame)
      clearTimeout(timer)
      clearTimeout(again)
    }
  }, [id])
  return { found, live, isLost }
}
