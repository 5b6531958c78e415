/** One question as a card, with its answers at the bottom: a page of its own, and beside the run that waits for it. */
import { useQuery } from '@tanstack/react-query'
import { Link } from 'wouter'
import { get } from '../api/client'
import { short } from '../model/amounts'
import { Trouble } from '../parts/Trouble'
import { approving } from '../words.approval'
import { pages } from '../words.pages'
import { type Approval, Card, headline, leftOf, useSpends } from './Card'
import { Decide } from './Decide'

const said = pages.approvals

export const useApproval = (id: string) =>
  useQuery({
    queryKey: ['/v1/approvals', id],
    queryFn: () => get('/v1/approvals/{id}', { path: { id } }),
  })

/** The card, and its answers at the bottom. */
export function Asked({ approval }: { approval: Approval }) {
  const found = useSpends(approval)
  const spends = found.data ?? []
  return (
    <article className="asked">
      {found.error && <Trouble error={found.error} retry={() => found.refetch()} />}
      {spends.length > 0 ? (
        <>
          <Card approval={approval} spends={spends} />
          <details className="exact">
            <summary>{approving.exact}</summary>
            <p dir="auto">{approval.message}</p>
          </details>
        </>
      ) : (
        !found.isLoading && (
          <>
            <p className="askwhat quiet">
              <span>{approving.asks}</span>
              {approval.status === 'pending' && <span>{leftOf(approval.expiresAt)}</span>}
            </p>
            <Question text={approval.message || approval.path} />
          </>
        )
      )}
      {approval.status === 'pending' && <Decide approval={approval} what={headline(spends)} />}
    </article>
  )
}

/** Beside its run; `others` more of the run wait after it. */
export function AskedBeside({ id, others }: { id: string; others: number }) {
  const found = useApproval(id)
  if (found.error && !found.data) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data) return null
  return (
    <aside className="beside" aria-label={approving.asks}>
      <Asked approval={found.data} />
      <p className="quiet">
        <Link href={`/approvals/${id}`}>{approving.wholeQuestion}</Link>
        {others > 0 && ` · ${approving.others(others)}`}
      </p>
    </aside>
  )
}

/** Addresses and calldata are shortened to be read; the exact text is one click away. */
function Question({ text }: { text: string }) {
  const brief = short(text)
  return (
    <div>
      <p className={`question ${brief.length > 120 ? 'long' : ''}`} dir="auto">
        {brief}
      </p>
      {brief !== text && (
        <details className="exact">
          <summary>{said.exact}</summary>
          <p dir="auto">{text}</p>
        </details>
      )}
    </div>
  )
}
