/** What a trigger sees now: a real event where the source can be asked, else a sample. Nothing is started. */
import { Button } from '@mantine/core'
import { IconPlayerPlay } from '@tabler/icons-react'
import { type Data, type Json, post } from '../api/client'
import { stringify } from '../api/exact'
import { useDocument } from '../editor/document'
import { usePayload } from '../editor/Payload'
import { Badge } from '../parts/Badges'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { pages } from '../words.pages'
import { trial as said } from '../words.palette'
import { useAttempt } from './attempt'
import { keepTrial } from './trial'

type Answer = Data<'/v1/triggers/{type}/test', 'post'>

export function TryTrigger({ id }: { id: string }) {
  const node = useDocument((s) => s.flow.nodes[id])
  const workflowId = useDocument((s) => s.id)
  const { answer, error, isBusy, go } = useAttempt(async () => {
    const asked = { config: node?.payload ?? {}, workflowId, connectorId: node?.connector?.id ?? null }
    const found = await post('/v1/triggers/{type}/test', { path: { type: node?.type ?? '' } }, asked as never)
    if (isMap(found.event)) take(workflowId, found.event)
    return found
  })
  if (!node) return null
  return (
    <div className="form">
      <p className="quiet">{said.about}</p>
      <Button leftSection={<IconPlayerPlay size={15} />} loading={isBusy} onClick={go}>
        {said.go}
      </Button>
      <Trouble error={error} />
      {answer && <Answered answer={answer} />}
    </div>
  )
}

const isMap = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Expressions see the event, and a run begins with it, unless somebody has written what it begins with. */
function take(workflowId: string | null, event: Json) {
  keepTrial(workflowId, event)
  const { id, isTouched } = usePayload.getState()
  if (id === workflowId && !isTouched) usePayload.setState({ text: stringify(event, 2), isTouched: true })
}

function Answered({ answer }: { answer: Answer }) {
  return (
    <section aria-label={said.event} className="tested">
      <header>
        <Badge tone={answer.origin === 'recent' ? 'ok' : undefined}>{said.origins[answer.origin]}</Badge>
        {answer.note && <span className="quiet">{answer.note}</span>}
      </header>
      {answer.problems.map((one, i) => (
        <p key={i} className="fault" role="alert">
          {one.field}: {one.message}
        </p>
      ))}
      {answer.event !== null && answer.event !== undefined && (
        <>
          <p className="quiet">{said.used}</p>
          <Value value={answer.event} label={said.value} />
        </>
      )}
      {answer.fires.length > 0 && (
        <>
          <h3 className="sub">{pages.triggers.next}</h3>
          <ol className="times">
            {answer.fires.map((fire) => (
              <li key={fire.at} title={fire.at}>
                {fire.localTime.slice(0, 16).replace('T', ' ')} <span className="quiet">{answer.timezone}</span>
              </li>
            ))}
          </ol>
        </>
      )}
    </section>
  )
}
