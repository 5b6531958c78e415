/** A new key, which is shown once. */
import { Button, Modal } from '@mantine/core'
import { words } from '../words'
import { newKey as said } from '../words.keys'

export const KeyOnce = ({ secret, close }: { secret: string; close: () => void }) => (
  <Modal opened onClose={close} title={said.title} closeButtonProps={{ 'aria-label': words.dialog.close }}>
    <p>{said.shown}</p>
    <p>
      <code className="secret">{secret}</code>
    </p>
    <div className="answers">
      <Button onClick={close}>{said.stored}</Button>
    </div>
  </Modal>
)
