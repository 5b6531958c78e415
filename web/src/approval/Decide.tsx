/** The two answers, at the thumb; a person who may not approve sees whose approval it needs, and no dead button. */
import { Button, Textarea } from '@mantine/core'
import { IconCheck, IconX } from '@tabler/icons-react'
import { useState } from 'react'
import { post } from '../api/client'
import { refresh, useMe } from '../api/queries'
import { plainRefusal } from '../model/asked'
import { may } from '../model/rights'
import { Trouble } from '../parts/Trouble'
import { approving } from '../words.approval'
import { pages } from '../words.pages'
import type { Approval } from './Card'
import { LetOne } from './LetOne'

const said = pages.approvals

/** `what`: the amount, which the button repeats. */
export function Decide({ approval, what }: { approval: Approval; what: string }) {
  const [comment, setComment] = useState<string | null>(null)
  const [busy, setBusy] = useState('')
  const [error, setError] = useState<unknown>(null)
  const me = useMe().data
  const hasVoted = approval.votes.some((one) => one.by === me?.keyId)
  const decide = async (answer: 'approve' | 'reject') => {
    setBusy(answer)
    setError(null)
    try {
      const said = { comment: comment?.trim() || null }
      const path = { path: { id: approval.id } }
      if (answer === 'reject') await post('/v1/approvals/{id}/reject', path, said)
      else await post('/v1/approvals/{id}/approve', path, { ...said, binding: approval.binding })
    } catch (problem) {
      setError(problem)
    }
    await refresh('/v1/approvals', 'run', 'effects', '/v1/runs')
    setBusy('')
  }
  return (
    <div className="decide">
      {approval.quorum > 1 && <p className="quiet">{said.votesOf(approval.votes.length, approval.quorum)}</p>}
      {hasVoted && <p role="status">{said.voted}</p>}
      {approval.refusal !== null && !hasVoted && (
        <div className="asknote" role="note">
          <p>{plainRefusal(approval.refusal)}</p>
          {may(me, 'admin') && approval.refusal.includes('singlePersonApproves') && (
            <p>
              {approving.alone} <LetOne />
            </p>
          )}
        </div>
      )}
      {comment === null ? (
        <button type="button" className="link" onClick={() => setComment('')}>
          {approving.comment}
        </button>
      ) : (
        <Textarea
          label={said.comment}
          description={said.commentAbout}
          autosize
          minRows={1}
          maxLength={2000}
          autoFocus
          value={comment}
          onChange={(event) => setComment(event.currentTarget.value)}
        />
      )}
      <Trouble error={error} />
      <div className="twoanswers">
        <Button
          variant="default"
          size="md"
          leftSection={<IconX size={17} />}
          loading={busy === 'reject'}
          disabled={busy !== ''}
          onClick={() => decide('reject')}
        >
          {said.reject}
        </Button>
        {approval.refusal === null && (
          <Button
            size="md"
            className="grow"
            leftSection={<IconCheck size={17} />}
            loading={busy === 'approve'}
            disabled={busy !== '' || hasVoted}
            onClick={() => decide('approve')}
          >
            {approving.approve(what)}
          </Button>
        )}
      </div>
    </div>
  )
}
