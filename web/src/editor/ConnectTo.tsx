/** Connects a step to another by choosing it from a list, for those who do not drag. */
import { Modal, Select } from '@mantine/core'
import { readable } from '../model/amounts'
import { words } from '../words'
import { edit, useDocument } from './document'
import { connect, reaches } from './edits'

export function ConnectTo({ from, close }: { from: string; close: () => void }) {
  const flow = useDocument((s) => s.flow)
  const nameOf = (id: string) => flow.nodes[id]?.titleOverride || readable(id)
  const possible = Object.keys(flow.nodes).filter(
    (id) => !reaches(flow, id, from) && !flow.nodes[from]?.children?.includes(id),
  )
  return (
    <Modal
      opened
      onClose={close}
      title={words.editor.connectTo(nameOf(from))}
      centered
      closeButtonProps={{ 'aria-label': words.dialog.close }}
    >
      <Select
        data-autofocus
        searchable
        aria-label={words.editor.connect}
        data={possible.map((id) => ({ value: id, label: nameOf(id) }))}
        onChange={(to) => {
          if (to) edit((f) => connect(f, from, to))
          close()
        }}
      />
    </Modal>
  )
}
