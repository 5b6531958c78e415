/** The log as a file that proves itself: fetched whole, checked here, and saved. */
import { Button, Modal } from '@mantine/core'
import { useState } from 'react'
import { get } from '../api/client'
import { type Checked, check } from '../model/auditChain'
import { Badge } from '../parts/Badges'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { pages } from '../words.pages'

const said = pages.audit

export function AuditExport({ close }: { close: () => void }) {
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const [done, setDone] = useState<{ text: string; found: Checked | null } | null>(null)
  const load = async () => {
    setBusy(true)
    setError(null)
    try {
      const text = await whole()
      // a page that came without encryption has no such functions
      setDone({ text, found: window.isSecureContext ? await check(text) : null })
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  return (
    <Modal opened onClose={close} title={said.export} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <div className="fields">
        <p>{said.exportAbout}</p>
        <p className="quiet">
          <code>{said.verify}</code> {said.verifyAbout}
        </p>
        {done && <State found={done.found} />}
        <Trouble error={error} />
      </div>
      <div className="answers">
        <Button variant="default" onClick={close}>
          {words.dialog.close}
        </Button>
        {done ? (
          <Button onClick={() => save(done.text)}>{said.save}</Button>
        ) : (
          <Button data-autofocus loading={busy} onClick={load}>
            {said.fetch}
          </Button>
        )}
      </div>
    </Modal>
  )
}

function State({ found }: { found: Checked | null }) {
  if (!found) return <p>{said.unchecked}</p>
  const { wrong, isSigned, entries, keys } = found
  return (
    <>
      <p role="status">
        {wrong === null ? <Badge tone="ok">{said.verified}</Badge> : <Badge tone="bad">{said.broken}</Badge>}{' '}
        {wrong === null ? said.entries(entries) : said.wrong(wrong)}
        {wrong === null && !isSigned && ` ${said.unsigned}`}
      </p>
      <p className="quiet">
        {said.key}{' '}
        {keys.map((one) => (
          <code key={one}>{one}</code>
        ))}
      </p>
    </>
  )
}

/** Part after part, as the server has signed them. */
async function whole() {
  const parts: string[] = []
  for (let after: number | null = 0; after !== null; ) {
    const part: { content: string; next: number | null } = await get('/v1/audit/export', { query: { after } })
    parts.push(part.content)
    after = part.next
  }
  return parts.join('')
}

function save(text: string) {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/jsonl' }))
  const link = document.createElement('a')
  link.href = url
  link.download = `dustrun-log-${new Date().toISOString().slice(0, 10)}.jsonl`
  link.click()
  URL.revokeObjectURL(url)
}
