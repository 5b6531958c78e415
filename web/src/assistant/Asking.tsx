/** A question about a launch, decided where it is asked. What it shows comes from the server, not from the model. */
import { Button } from '@mantine/core'
import { IconCheck, IconX } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { ApiError, get, post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { Badge, ModeBadge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'
import { Report } from './Outcome'
import type { Question } from './parts'
import '../style/approval.css'

type Approval = Schemas['ApprovalAnswer']
const TONES: Record<string, string> = { approved: 'ok', rejected: 'bad', expired: 'dust' }
const SHOWN: Record<string, string> = { approved: 'approved', timed_out: 'expired', pending: '' }

export function Asking({ question }: { question: Question }) {
  const found = useQuery({
    queryKey: ['/v1/approvals', question.approvalId],
    queryFn: () => get('/v1/approvals/{id}', { path: { id: question.approvalId } }),
  })
  const approval = found.data
  const decision = question.decision ?? (approval ? (SHOWN[approval.status] ?? 'rejected') : '')
  return (
    <Section title={said.decide} about={said.decideAbout}>
      <Trouble error={found.error} retry={() => found.refetch()} />
      {approval && (
        <p className="asking" dir="auto">
          <ModeBadge mode={question.mode} /> {approval.message}
        </p>
      )}
      <Report runId={question.rehearsalRunId} mode="simulate" label={`${said.shown} ${question.runId}`} />
      <p className="foot" aria-live="polite">
        {decision ? (
          <Badge tone={TONES[decision]}>{said.decisions[decision] ?? decision}</Badge>
        ) : (
          approval && (
            <>
              {said.until} <Time at={approval.expiresAt} />
            </>
          )
        )}{' '}
        <Link href={`/approvals/${question.approvalId}`}>{said.details}</Link>
      </p>
      {!decision && approval && <Decide approval={approval} question={question} />}
    </Section>
  )
}

function Decide({ approval, question }: { approval: Approval; question: Question }) {
  const [isAsked, setIsAsked] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const path = { path: { id: approval.id } }
  const after = () => refresh('/v1/approvals', 'messages', 'effects', '/v1/runs')
  const reject = async () => {
    setError(null)
    try {
      await post('/v1/approvals/{id}/reject', path, {})
    } catch (problem) {
      setError(problem)
    }
    await after()
  }
  const approve = async () => {
    await post('/v1/approvals/{id}/approve', path, { binding: question.binding })
    await after()
  }
  const isSame = approval.binding === question.binding
  return (
    <div className="deciding">
      <Trouble error={isSame ? error : new ApiError(0, said.otherBinding)} />
      <div className="twoanswers">
        <Button variant="default" leftSection={<IconX size={16} />} onClick={reject}>
          {said.reject}
        </Button>
        <Button leftSection={<IconCheck size={16} />} disabled={!isSame} onClick={() => setIsAsked(true)}>
          {said.approve}
        </Button>
      </div>
      <Confirm
        title={said.approveAsk}
        isOpen={isAsked}
        close={() => setIsAsked(false)}
        go={said.approveGo[question.mode] ?? said.approve}
        cancel={said.keep}
        danger={question.mode === 'live'}
        act={approve}
      >
        <p dir="auto">{approval.message}</p>
        <Report runId={question.rehearsalRunId} mode="simulate" label={said.approveAsk} />
      </Confirm>
    </div>
  )
}
