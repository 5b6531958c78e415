/** What a run from here starts with: the last run's payload, else one made from the trigger's input schema. */
import { ActionIcon, Button, Popover, Textarea, Tooltip } from '@mantine/core'
import { IconBraces } from '@tabler/icons-react'
import { useEffect } from 'react'
import { create } from 'zustand'
import { type Json, type Run, send } from '../api/client'
import { parse, stringify } from '../api/exact'
import type { Flow } from '../model/graph'
import { triggersOf } from '../model/graph'
import { words } from '../words'
import { useDocument } from './document'

const said = words.editor
export const usePayload = create<{ id: string | null; text: string; isTouched: boolean }>(() => ({
  id: null,
  text: '{}',
  isTouched: false,
}))

/** The payload; undefined where the text is no JSON object. */
export function readPayload(text: string): Json | undefined {
  try {
    const value = parse(text || '{}')
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined
  } catch {
    return undefined
  }
}

type Property = {
  type?: string
  default?: unknown
  example?: unknown
  examples?: unknown[]
  minimum?: number
  enum?: unknown[]
}

export function payloadFromSchema(flow: Flow): Json {
  const root = triggersOf(flow)[0]
  const schema = (root ? flow.nodes[root]?.payload?.inputSchema : null) as {
    properties?: Record<string, Property>
  } | null
  const made: Json = {}
  for (const [name, one] of Object.entries(schema?.properties ?? {})) {
    const byType = { integer: one.minimum ?? 0, number: one.minimum ?? 0, boolean: false, array: [], object: {} }
    made[name] = one.default ?? one.example ?? one.examples?.[0] ?? one.enum?.[0] ?? byType[one.type as 'integer'] ?? ''
  }
  return made
}

/** Begins with the payload of the last run, unless something has been typed. */
export function usePayloadOf(id: string, last: Run | null | undefined) {
  useEffect(() => {
    const s = usePayload.getState()
    if (s.id === id && s.isTouched) return
    let isOver = false
    const put = (payload: unknown) => {
      if (!isOver) usePayload.setState({ id, text: stringify(payload, 2), isTouched: false })
    }
    if (last?.payload && Object.keys(last.payload).length) put(last.payload)
    else if (last) {
      void send('get', '/v1/runs/{id}', { path: { id: last.id } }).then((run) => put((run as Run).payload ?? {}))
    } else put(payloadFromSchema(useDocument.getState().flow))
    return () => {
      isOver = true
    }
  }, [id, last])
}

export function PayloadButton() {
  const text = usePayload((s) => s.text)
  const isWrong = readPayload(text) === undefined
  const set = (text: string) => usePayload.setState({ text, isTouched: true })
  return (
    <Popover width="min(420px, calc(100vw - 16px))" position="bottom-end" trapFocus shadow="md" returnFocus>
      <Popover.Target>
        <Tooltip label={said.payload}>
          <ActionIcon variant="subtle" color={isWrong ? 'red' : 'gray'} size={36} aria-label={said.payload}>
            <IconBraces size={18} />
          </ActionIcon>
        </Tooltip>
      </Popover.Target>
      <Popover.Dropdown aria-label={said.payload}>
        <Textarea
          label={said.payload}
          description={said.payloadAbout}
          error={isWrong && said.payloadWrong}
          value={text}
          onChange={(event) => set(event.currentTarget.value)}
          autosize
          minRows={6}
          maxRows={18}
          spellCheck={false}
          classNames={{ input: 'mono' }}
        />
        <Button
          mt="xs"
          size="xs"
          variant="default"
          onClick={() => set(stringify(payloadFromSchema(useDocument.getState().flow), 2))}
        >
          {said.payloadReset}
        </Button>
      </Popover.Dropdown>
    </Popover>
  )
}
