/** When a schedule runs, in words: typed ones become the trigger that they mean, and its next times are shown. */
import { TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { post } from '../api/client'
import { edit, useDocument } from '../editor/document'
import { patchNode } from '../editor/edits'
import { readSchedule, saySchedule } from '../model/schedule'
import { words } from '../words'

const said = words.schedule
const SHOWN = 5

export function ScheduleWords({ id }: { id: string }) {
  const node = useDocument((s) => s.flow.nodes[id])
  const [typed, setTyped] = useState<string | null>(null)
  const type = node?.type ?? ''
  const payload = node?.payload ?? {}
  const meant = typed === null ? null : readSchedule(typed)
  const change = (text: string) => {
    setTyped(text)
    const timing = readSchedule(text)
    if (!timing) return
    const zone = timing.type !== 'interval' && payload.timezone ? { timezone: payload.timezone } : {}
    edit((flow) => patchNode(flow, id, { type: timing.type, payload: { ...timing.payload, ...zone } }), `${id} when`)
  }
  return (
    <div className="field">
      <TextInput
        label={said.label}
        placeholder={said.example}
        value={typed ?? saySchedule(type, payload) ?? ''}
        onChange={(event) => change(event.currentTarget.value)}
        onBlur={() => meant && setTyped(null)}
        description={saySchedule(type, payload) === null && Object.keys(payload).length ? said.byRule : undefined}
        error={typed?.trim() && !meant ? said.unknown(typed.trim()) : undefined}
      />
      <Next type={type} payload={payload} />
    </div>
  )
}

function Next({ type, payload }: { type: string; payload: object }) {
  const [config] = useDebouncedValue(payload, 300)
  const found = useQuery({
    queryKey: ['fires', type, config],
    queryFn: () => post('/v1/triggers/{type}/test', { path: { type } }, { config } as never),
    enabled: Object.keys(config).length > 0,
    retry: false,
  })
  const fires = found.data?.fires.slice(0, SHOWN) ?? []
  if (!fires.length) return null
  return (
    <>
      <div className="lab">{said.next}</div>
      <ol className="times">
        {fires.map((fire) => (
          <li key={fire.at} title={fire.at}>
            {fire.localTime.slice(0, 16).replace('T', ' ')} <span className="quiet">{found.data?.timezone}</span>
          </li>
        ))}
      </ol>
    </>
  )
}
