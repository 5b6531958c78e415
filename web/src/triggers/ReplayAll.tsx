/** Takes all events of a workflow once more that started no run, after it has shown them. */
import { Button, Modal, Select } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { Badge } from '../parts/Badges'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { pages } from '../words.pages'

type Found = Schemas['ReplaysAnswer']
type Mode = 'preview' | 'simulate' | 'replay'
const said = pages.triggers
const MOST = 100

const ask = async (workflowId: string, reason: string | null, mode: Mode) =>
  (await post('/v1/trigger-events/replay', {}, { workflowId, reason, mode, limit: MOST, ignoreLimits: false })) as Found

export function ReplayAll({ workflowId }: { workflowId: string }) {
  const [isOpen, setOpen] = useState(false)
  return (
    <div className="answers">
      <Button size="xs" variant="default" onClick={() => setOpen(true)}>
        {said.replayAll}
      </Button>
      <Modal
        opened={isOpen}
        onClose={() => setOpen(false)}
        title={said.replayAll}
        centered
        size="lg"
        closeButtonProps={{ 'aria-label': words.dialog.close }}
      >
        <Chosen workflowId={workflowId} close={() => setOpen(false)} />
      </Modal>
    </div>
  )
}

function Chosen({ workflowId, close }: { workflowId: string; close: () => void }) {
  const [reason, setReason] = useState<string | null>(null)
  const [done, setDone] = useState<{ mode: Mode; found: Found } | null>(null)
  const [busy, setBusy] = useState<Mode | null>(null)
  const [error, setError] = useState<unknown>(null)
  const preview = useQuery({
    queryKey: ['replays', workflowId, reason],
    queryFn: () => ask(workflowId, reason, 'preview'),
    gcTime: 0,
  })
  const every = useQuery({
    queryKey: ['replays', workflowId, null],
    queryFn: () => ask(workflowId, null, 'preview'),
    gcTime: 0,
  })
  const run = async (mode: Mode) => {
    setBusy(mode)
    setError(null)
    try {
      setDone({ mode, found: await ask(workflowId, reason, mode) })
      await refresh('/v1/trigger-events', '/v1/runs')
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(null)
    }
  }
  const shown = done?.found ?? preview.data
  const reasons = [...new Set((every.data?.items ?? []).map((one) => one.before).filter((one) => one !== null))]
  const count = shown?.items.length ?? 0
  const isOver = done?.mode === 'replay'
  return (
    <>
      <p>{said.replayAllAbout}</p>
      <Select
        label={said.reason}
        placeholder={said.anyReason}
        clearable
        clearButtonProps={{ 'aria-label': said.anyReason }}
        data={reasons}
        value={reason}
        disabled={isOver}
        onChange={(value) => {
          setReason(value)
          setDone(null)
        }}
      />
      <Trouble error={error ?? preview.error} />
      <div aria-live="polite">
        {shown && <p className="result first">{said.replays(count, shown.hasMore, done?.mode ?? 'preview')}</p>}
      </div>
      <ul className="plain">
        {(shown?.items ?? []).map((one) => (
          <li key={one.eventId}>
            <Time at={one.occurredAt} /> <Badge>{one.before ?? one.outcome}</Badge> {one.message}{' '}
            {one.runIds.map((id) => (
              <Link key={id} href={`/runs/${id}`}>
                {id}
              </Link>
            ))}
          </li>
        ))}
      </ul>
      <div className="answers">
        <Button variant="default" data-autofocus onClick={close}>
          {isOver ? words.dialog.close : words.dialog.cancel}
        </Button>
        {!isOver && (
          <>
            <Button variant="default" loading={busy === 'simulate'} disabled={!count} onClick={() => run('simulate')}>
              {said.simulateThem}
            </Button>
            <Button className="danger" loading={busy === 'replay'} disabled={!count} onClick={() => run('replay')}>
              {said.replayThem}
            </Button>
          </>
        )}
      </div>
    </>
  )
}
