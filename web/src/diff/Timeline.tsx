/** All versions, newest first: when, by whom, which one runs; an old one can be made the draft again. */
import { useState } from 'react'
import { useLocation } from 'wouter'
import { post, type Workflow } from '../api/client'
import { refresh, useList, useMe } from '../api/queries'
import { useWho } from '../api/who'
import { may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { versions as said } from '../words.versions'

type Props = { workflow: Workflow; from: number; to: number; choose: (version: number) => void }

export function Timeline({ workflow, from, to, choose }: Props) {
  const found = useList('/v1/workflows/{id}/versions', {}, { id: workflow.id })
  const who = useWho()
  const me = useMe().data
  const [, go] = useLocation()
  const [asked, setAsked] = useState<number | null>(null)
  const restore = async () => {
    await post('/v1/workflows/{id}/rollback', { path: { id: workflow.id } }, { targetVersion: asked ?? 0 })
    await refresh('workflow', '/v1/workflows', '/v1/workflows/{id}/versions')
    go(`/workflows/${workflow.id}`)
  }
  return (
    <>
      <ol className="timeline" aria-label={said.timeline}>
        {found.error && <Trouble error={found.error} retry={() => found.refetch()} />}
        {found.rows.map((one) => (
          <li key={one.version} className={one.version === to ? 'to' : one.version === from ? 'from' : ''}>
            <button type="button" aria-pressed={one.version === to} onClick={() => choose(one.version)}>
              <strong>{said.version(one.version)}</strong> {one.isLive && <Badge tone="ok">{said.live}</Badge>}
              {one.isDraft && <Badge>{said.draft}</Badge>}
              <small>
                <Time at={one.createdAt} /> · {who(one.versionCreatedBy)}
              </small>
              {one.publishedAt && (
                <small>
                  {said.published} <Time at={one.publishedAt} /> · {who(one.publishedBy)}
                </small>
              )}
            </button>
            {one.version !== workflow.version && may(me, 'workflow:update') && (
              <button type="button" className="link" onClick={() => setAsked(one.version)}>
                {said.restore}
                <span className="said"> {said.version(one.version)}</span>
              </button>
            )}
          </li>
        ))}
        {found.hasNextPage && (
          <li>
            <button type="button" className="link" onClick={() => found.fetchNextPage()}>
              {words.state.moreRows}
            </button>
          </li>
        )}
      </ol>
      <Confirm
        title={said.restoreAsk(asked ?? 0)}
        isOpen={asked !== null}
        close={() => setAsked(null)}
        go={said.restore}
        danger={false}
        act={restore}
      >
        <p>{said.restoreAbout(workflow.liveVersion)}</p>
      </Confirm>
    </>
  )
}
