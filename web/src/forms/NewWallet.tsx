/** The form that makes a wallet. */
import { Button, Modal, Select, TextInput } from '@mantine/core'
import { type FormEvent, useState } from 'react'
import { post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { pages } from '../words.pages'

const said = pages.wallets

export default function NewWallet({ close, made }: { close: () => void; made: (id: string) => void }) {
  const [name, setName] = useState('')
  const [kind, setKind] = useState<'local' | 'watch'>('local')
  const [address, setAddress] = useState('')
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const make = async (event: FormEvent) => {
    event.preventDefault()
    setBusy(true)
    try {
      const body = { name: name.trim(), kind, ...(kind === 'watch' ? { address: address.trim() } : {}) }
      const { id } = await post('/v1/wallets', {}, body as Schemas['CreateWallet'])
      await refresh('/v1/wallets')
      made(id)
      close()
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  return (
    <Modal opened onClose={close} title={said.create} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <form className="fields" onSubmit={make}>
        <p className="quiet">{said.createAbout}</p>
        <TextInput
          label={pages.name}
          required
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Select
          label={said.kind}
          allowDeselect={false}
          data={(['local', 'watch'] as const).map((value) => ({ value, label: said.kinds[value] ?? value }))}
          value={kind}
          onChange={(value) => setKind(value === 'watch' ? 'watch' : 'local')}
        />
        {kind === 'watch' && (
          <TextInput
            label={said.address}
            description={said.addressAbout}
            required
            value={address}
            onChange={(event) => setAddress(event.currentTarget.value)}
          />
        )}
        <p className="quiet">
          {said.importAbout} <code>dustrun wallet import</code>.
        </p>
        <Trouble error={error} />
        <div className="answers">
          <Button variant="default" onClick={close}>
            {words.dialog.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={!name.trim()}>
            {said.create}
          </Button>
        </div>
      </form>
    </Modal>
  )
}
