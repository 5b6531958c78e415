/** What follows from publishing: when it runs next, and who is told when it fails. */
import { Button, Modal } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { Link } from 'wouter'
import { get, type Workflow } from '../api/client'
import { useEveryOne, useMe } from '../api/queries'
import { may } from '../model/rights'
import { ago } from '../parts/Time'
import { words } from '../words'
import { publishing as said } from '../words.publish'

type Props = { workflow: Workflow; isOpen: boolean; close: () => void }

export function Published({ workflow, isOpen, close }: Props) {
  return (
    <Modal
      opened={isOpen}
      onClose={close}
      title={said.done}
      centered
      closeButtonProps={{ 'aria-label': words.dialog.close }}
    >
      {isOpen && <Follows workflow={workflow} />}
      <div className="answers">
        <Button data-autofocus onClick={close}>
          {said.close}
        </Button>
      </div>
    </Modal>
  )
}

/** As failures are called to whom they are told. */
const tellsOfFailure = (types: string[]) => types.some((one) => one === '*' || one === 'run.*' || one === 'run.failed')

function Follows({ workflow }: { workflow: Workflow }) {
  const me = useMe().data
  const readsHooks = may(me, 'hook:read')
  const hooks = useEveryOne('/v1/hooks', readsHooks).filter(
    (one) =>
      one.status === 'active' &&
      tellsOfFailure(one.subscribedEventTypes) &&
      (one.workflowIds === null || one.workflowIds.includes(workflow.id)),
  )
  return (
    <>
      <p>
        <b>{workflow.liveVersion && said.version(workflow.liveVersion)}</b> <NextRun workflow={workflow} />
      </p>
      <p>
        {said.fails} {readsHooks && (hooks.length ? said.told(hooks.map((one) => one.name).join(', ')) : said.nobody)}{' '}
        {readsHooks && !hooks.length && <Link href="/hooks">{said.tell}</Link>}
      </p>
    </>
  )
}

function NextRun({ workflow }: { workflow: Workflow }) {
  const found = useQuery({
    queryKey: ['schedule', workflow.id, workflow.liveVersion],
    queryFn: () => get('/v1/workflows/{id}/schedule', { path: { id: workflow.id } }),
  })
  const at = found.data?.nextRunAt
  if (!found.data) return null
  if (!at) return workflow.triggerType === 'manual' ? said.manual : said.listens
  const when = new Date(at)
  const isToday = when.toDateString() === new Date().toDateString()
  const clock = when.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
  const away = ago(at, Date.now()).replace(/\.$/, '')
  return isToday
    ? said.nextRun(clock, away)
    : said.nextDay(`${when.toLocaleDateString('en', { dateStyle: 'medium' })} ${clock}`, away)
}
