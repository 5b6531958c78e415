/** The secret addresses of a workflow's webhooks: made, replaced and revoked. Each is shown once. */
import { Button, Modal } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { del, get, post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { Confirm } from '../parts/Confirm'
import { Copied, Facts, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { pages } from '../words.pages'

type Hook = Schemas['WebhookNodeAnswer']
type Made = Schemas['NewAddressAnswer']
const said = pages.webhooks
const KEY = '/v1/workflows/{id}/webhooks'

export function Webhooks({ workflowId }: { workflowId: string }) {
  const path = { id: workflowId }
  const found = useQuery({ queryKey: [KEY, workflowId], queryFn: () => get(KEY, { path }) })
  const [asks, setAsks] = useState<{ nodeId: string; what: 'rotate' | 'revoke' } | null>(null)
  const [made, setMade] = useState<Made | null>(null)
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  const rotate = async (nodeId: string) => {
    setMade(await post('/v1/workflows/{id}/webhooks/{nodeId}/rotate', { path: { ...path, nodeId } }))
    await refresh(KEY)
  }
  const act = async () => {
    if (!asks) return
    if (asks.what === 'rotate') return rotate(asks.nodeId)
    await del('/v1/workflows/{id}/webhooks/{nodeId}', { path: { ...path, nodeId: asks.nodeId } })
    await refresh(KEY)
  }
  const isNew = asks !== null && !found.data?.find((one) => one.nodeId === asks.nodeId)?.addresses.length
  return (
    <>
      {found.data?.map((hook) => (
        <Shown key={hook.nodeId} hook={hook} ask={(what) => setAsks({ nodeId: hook.nodeId, what })} />
      ))}
      <Confirm
        title={asks?.what === 'revoke' ? said.revokeAsk : isNew ? said.makeAsk : said.rotateAsk}
        isOpen={asks !== null}
        close={() => setAsks(null)}
        go={asks?.what === 'revoke' ? said.revoke : isNew ? said.make : said.rotate}
        danger={asks?.what === 'revoke'}
        act={act}
      >
        <p>{asks?.what === 'revoke' ? said.revokeAbout : isNew ? said.makeAbout : said.rotateAbout}</p>
      </Confirm>
      {made && (
        <Modal
          opened
          onClose={() => setMade(null)}
          title={said.shown}
          size={560}
          closeButtonProps={{ 'aria-label': words.dialog.close }}
        >
          <p>{said.shownAbout}</p>
          <Facts
            of={[
              [said.address, <Copied key="url" text={made.url} whole name={said.address} />],
              [said.signing, <Copied key="secret" text={made.signingSecret} whole name={said.signing} />],
            ]}
          />
          <div className="answers">
            <Button onClick={() => setMade(null)}>{said.stored}</Button>
          </div>
        </Modal>
      )}
    </>
  )
}

type ShownProps = { hook: Hook; ask: (what: 'rotate' | 'revoke') => void }

function Shown({ hook, ask }: ShownProps) {
  const has = hook.addresses.length > 0
  return (
    <Section
      title={said.title(hook.nodeId)}
      actions={
        <>
          <Button variant="default" size="xs" onClick={() => ask('rotate')}>
            {has ? said.rotate : said.make}
          </Button>
          {has && (
            <Button variant="default" size="xs" onClick={() => ask('revoke')}>
              {said.revoke}
            </Button>
          )}
        </>
      }
    >
      <Facts
        of={[
          [said.methods, hook.methods.join(', ')],
          [said.auth, hook.auth],
          [said.answer, hook.respond],
          [
            said.addresses,
            has
              ? hook.addresses.map((one) => (
                  <p key={one.id}>
                    {said.made} <Time at={one.createdAt} />
                    {one.expiresAt && (
                      <>
                        , {said.until} <Time at={one.expiresAt} />
                      </>
                    )}
                  </p>
                ))
              : said.none,
          ],
        ]}
      />
    </Section>
  )
}
